"""A step as the section of a configuration."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from tasks.train.anytime.recipe import section_of
from tasks.train.anytime.step import Step
from tasks.train.config import TrainConfig
from tasks.train.methods.auto import Auto

AUTO = Auto(seed=3, calibrate=False, budget="1.5h")


@pytest.mark.parametrize("method", ["linear", "mlp", "knn", "lp_ft", "partial", "lora", "dynamic"])
def test_a_step_is_a_section_that_anyone_could_have_written(method: str) -> None:
    step = Step("tune", "a", method, 640, 4, limit=90.0)
    section = TypeAdapter(TrainConfig).validate_python(section_of(step, AUTO, 5_000))
    assert (section.method, section.seed, section.calibrate) == (method, 3, False)
    if method in ("lp_ft", "partial", "lora", "dynamic"):
        assert (section.epochs, section.minutes, section.batch_size) == (4, 1.5, 32)


def test_a_short_training_takes_smaller_steps() -> None:
    def rate(images: int) -> float:
        value: float = section_of(Step("tune", "a", "lp_ft", images, 1), AUTO, 5_000)["learning_rate"]
        return value

    assert rate(32 * 50) == pytest.approx(1.5e-4) and rate(32 * 200) == rate(32 * 5_000) == pytest.approx(3e-4)
    assert "learning_rate" not in section_of(Step("tune", "a", "lora", 100, 1), AUTO, 100)  # it has its own


def test_a_budget_is_a_time() -> None:
    assert [Auto(budget=text).seconds for text in ("90s", "10m", "1.5h")] == [90.0, 600.0, 5_400.0]
