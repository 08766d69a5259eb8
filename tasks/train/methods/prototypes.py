"""Prototypes: each class is the mean of its images' features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tasks.train.fusion.weighing import Weighing

if TYPE_CHECKING:
    from tasks.train.solvers import Fit
    from tasks.train.task import Task


class Prototypes(Weighing):
    """The nearest class mean (Snell et al. 2017, "Prototypical networks for few-shot learning"): for few images."""

    method: Literal["prototypes"] = "prototypes"
    distance: Literal["auto", "euclidean", "cosine"] = "auto"
    """`auto`: the better one on validation."""

    multi_label = False

    def fit(self, task: Task) -> Fit:
        from tasks.train.prototypes import fit_prototypes

        return self.weighed(
            lambda parts: fit_prototypes(
                task.train, task.validation, task.classes, self.distance, parts, self.calibrate
            ),
            task.parts if self.weigh else task.counted,
        )
