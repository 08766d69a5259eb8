"""The section of the configuration that stands for a step: what a run by hand would write down."""

from __future__ import annotations

from typing import Any

from tasks.train.anytime.step import Step
from tasks.train.methods import METHODS
from tasks.train.methods.auto import Auto
from tasks.train.tuning.config import TuningConfig

SMALL = 10_000
"""Up to so many training images, batches of 32 make steps enough."""
RATE = 3e-4
"""Of methods that train all of the backbone's weights from a solved head."""


def section_of(step: Step, auto: Auto, images: int) -> dict[str, Any]:
    """The section ``train`` of a step.

    Args:
        images: in the training split, by which batches are as large in trials as in the training that they are for.
    """
    section: dict[str, Any] = {"method": step.method, "seed": auto.seed, "calibrate": auto.calibrate}
    if not issubclass(METHODS[step.method], TuningConfig):
        return section
    section |= {"epochs": step.epochs, "batch_size": 32 if images <= SMALL else 64}
    section |= {"minutes": round(step.limit / 60, 3)}
    return section if step.method == "lora" else section | {"learning_rate": RATE}
