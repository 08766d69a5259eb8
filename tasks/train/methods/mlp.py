"""A head with a hidden layer, trained on cached features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.train.joint.config import TasksConfig
from tasks.train.kinds import Balance
from tasks.train.method import Method

if TYPE_CHECKING:
    from tasks.train.solvers import Fit
    from tasks.train.task import Task


class Mlp(Method):
    """One hidden layer trained with AdamW; the best epoch is chosen on validation. Of a number it also learns how far
    off it may be of each image."""

    numbers = True

    method: Literal["mlp"] = "mlp"
    epochs: int = Field(default=10, ge=1)
    """Passes over the training features."""
    hidden: int = Field(default=256, ge=1)
    """Width of the hidden layer."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Step size."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Share of the weights that a step of size one takes away."""
    batch_size: int = Field(default=64, ge=1)
    """Images per step."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that is spread over all classes."""
    balance: Balance = "none"
    """Classes of unequal size: `weights` counts every class alike, `sampling` draws from every class as often."""

    tasks: TasksConfig | None = None
    """Several tasks that share the hidden layer; by default each has its own."""

    def fit(self, task: Task) -> Fit:
        from tasks.train.solvers import fit_mlp

        keys = {"epochs", "hidden", "learning_rate", "weight_decay", "batch_size", "label_smoothing", "balance"}
        keyed = self.model_dump(include=keys)
        if self.tasks and task.target is None:
            from tasks.train.joint.layers import fit_mlp_jointly

            return fit_mlp_jointly(task, self.tasks, parts=task.counted, **keyed)
        return fit_mlp(task.train, task.validation, task.classes, seed=task.seed, parts=task.counted, **keyed)

    @classmethod
    def space(cls, draw: Any) -> dict[str, Any]:
        return {
            "hidden": draw.suggest_categorical("hidden", [128, 256, 512, 1024]),
            "learning_rate": draw.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
            "weight_decay": draw.suggest_float("weight_decay", 1e-4, 1.0, log=True),
            "label_smoothing": draw.suggest_float("label_smoothing", 0.0, 0.2),
        }
