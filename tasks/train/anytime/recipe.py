"""The section of the configuration that stands for a step: what a run by hand would write down."""

from __future__ import annotations

from typing import Any

from tasks.train.anytime.step import Step
from tasks.train.methods import METHODS
from tasks.train.methods.auto import Auto
from tasks.train.tuning.config import TuningConfig

SMALL = 10_000
"""Up to so many training images, batches of 32 make steps enough."""
RATE, STEPS = 3e-4, 200
"""Rate of trainings of the backbone's own weights from a solved head, and from how many steps on it is that. Adam's
first steps are as large as any, whatever they have seen, and a short training cannot make up for what they spoil."""


def section_of(step: Step, auto: Auto, images: int) -> dict[str, Any]:
    """The section ``train`` of a step.

    Args:
        images: in the training split, by which batches are as large in trials as in the training that they are for.
    """
    section: dict[str, Any] = {"method": step.method, "seed": auto.seed, "calibrate": auto.calibrate}
    if not issubclass(METHODS[step.method], TuningConfig):
        return section
    batch = 32 if images <= SMALL else 64
    section |= {"epochs": step.epochs, "batch_size": batch, "minutes": round(step.limit / 60, 3)}
    steps = step.epochs * max(1, step.images // batch)
    return section if step.method == "lora" else section | {"learning_rate": RATE * min(1.0, steps / STEPS) ** 0.5}
