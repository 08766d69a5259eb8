"""Linear head: logistic regression on cached features, or ridge regression onto a number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tasks.train.fusion.weighing import Weighing

if TYPE_CHECKING:
    from tasks.train.fusion.parts import Part
    from tasks.train.solvers import Fit
    from tasks.train.task import Task


class Linear(Weighing):
    """Logistic regression, solved to convergence, or ridge regression onto a number; the L2 strength is chosen on
    validation. In seconds."""

    numbers = True
    cross_validates = True

    method: Literal["linear"] = "linear"
    balance: Literal["none", "weights"] = "none"
    """`weights`: every class counts alike, however many images it has."""

    def fit(self, task: Task) -> Fit:
        from tasks.train.least_squares import fit_number, fit_number_cross_validated
        from tasks.train.solvers import fit_linear, fit_linear_cross_validated

        def fit(parts: tuple[Part, ...]) -> Fit:
            if task.aim.kind == "number" and task.is_cross_validated:
                return fit_number_cross_validated(task.everything, seed=task.seed, groups=task.groups, parts=parts)
            if task.aim.kind == "number":
                return fit_number(task.train, task.validation, parts)
            if task.is_cross_validated:
                return fit_linear_cross_validated(
                    task.everything, task.classes, self.balance, seed=task.seed, groups=task.groups, parts=parts
                )
            return fit_linear(task.train, task.validation, task.classes, self.balance, parts)

        return self.weighed(fit, task.parts if self.weigh else task.counted)

    @classmethod
    def space(cls, draw: Any) -> dict[str, Any]:
        return {"balance": draw.suggest_categorical("balance", ["none", "weights"])}
