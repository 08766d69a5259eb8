"""Nearest neighbours: training images vote by their features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.train.fusion.weighing import Weighing

if TYPE_CHECKING:
    from tasks.train.solvers import Fit
    from tasks.train.task import Task


class KNearest(Weighing):
    """Weighted votes of the k most similar training images, or the mean of their numbers; k is chosen on validation.
    Nothing is trained."""

    numbers = True

    method: Literal["knn"] = "knn"
    k: int | None = Field(default=None, ge=1)
    """Neighbours that vote; by default the best on validation."""

    def fit(self, task: Task) -> Fit:
        from tasks.train.neighbours import fit_neighbours

        return self.weighed(
            lambda parts: fit_neighbours(task.train, task.validation, task.classes, self.k, parts),
            task.parts if self.weigh else task.counted,
        )
