"""Gated fusion: several backbones or layers, weighed image by image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from tasks.train.kinds import Balance
from tasks.train.method import Method

if TYPE_CHECKING:
    from tasks.train.solvers import Fit
    from tasks.train.task import Task


class GatedFusion(Method):
    """Of several backbones or layers, shared and private views of each, weighed by a gate for each image; the best
    epoch is chosen on validation."""

    cross_validates = True
    method: Literal["gated_fusion"] = "gated_fusion"
    epochs: int = Field(default=30, ge=1)
    """Passes over the training features; of few images, each is seen more often."""
    hidden: int = Field(default=128, ge=1)
    """Width of the shared view, and of the private view of each part."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Step size at the beginning; it falls to zero along a cosine."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Share of the weights that a step of size one takes away."""
    batch_size: int = Field(default=64, ge=1)
    """Images per step."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of the fused view that is left out in each step."""
    agreement: float = Field(default=0.1, ge=0)
    """How much the loss counts that the shared views of an image differ from part to part."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the target that is spread over all classes."""
    balance: Balance = "none"
    """Classes of unequal size: `weights` counts every class alike, `sampling` draws from every class as often."""

    joins: ClassVar[bool] = True

    def fit(self, task: Task) -> Fit:
        from tasks.train.fusion.gated import Schedule, fit_gated, fit_gated_cross_validated

        schedule = Schedule(**self.model_dump(include=set(Schedule.__dataclass_fields__)))
        if task.is_cross_validated:
            return fit_gated_cross_validated(
                task.everything, task.classes, task.parts, schedule, task.seed, task.groups, self.calibrate
            )
        return fit_gated(task.train, task.validation, task.classes, task.parts, schedule, task.seed)

    @classmethod
    def space(cls, draw: Any) -> dict[str, Any]:
        return {
            "hidden": draw.suggest_categorical("hidden", [64, 128, 256]),
            "learning_rate": draw.suggest_float("learning_rate", 3e-4, 3e-3, log=True),
            "weight_decay": draw.suggest_float("weight_decay", 1e-3, 1.0, log=True),
            "dropout": draw.suggest_float("dropout", 0.0, 0.7),
            "agreement": draw.suggest_float("agreement", 0.0, 1.0),
        }
