"""Ridge regression onto the classes, or a number: a linear head in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tasks.train.fusion.weighing import Weighing

if TYPE_CHECKING:
    from tasks.train.solvers import Fit
    from tasks.train.task import Task


class Ridge(Weighing):
    """Least squares onto ones and zeros, or a number, all L2 strengths from one decomposition; chosen on validation."""

    numbers = True

    method: Literal["ridge"] = "ridge"
    balance: Literal["none", "weights"] = "none"
    """`weights`: every class counts alike, however many images it has."""

    def fit(self, task: Task) -> Fit:
        from tasks.train.least_squares import fit_number
        from tasks.train.ridge import fit_ridge

        if task.aim.kind == "number":
            return self.weighed(
                lambda parts: fit_number(task.train, task.validation, parts), task.parts if self.weigh else task.counted
            )
        return self.weighed(
            lambda parts: fit_ridge(task.train, task.validation, task.classes, self.balance, parts),
            task.parts if self.weigh else task.counted,
        )
