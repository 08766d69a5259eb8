"""Logits ensemble: a linear head for each of several backbones or layers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tasks.train.method import Method

if TYPE_CHECKING:
    from tasks.train.solvers import Fit
    from tasks.train.task import Task


class LogitsEnsemble(Method):
    """Of several backbones or layers, a linear head for each; their calibrated probabilities are averaged, with weights
    that are chosen on validation."""

    cross_validates = True
    method: Literal["logits_ensemble"] = "logits_ensemble"
    balance: Literal["none", "weights"] = "none"
    """`weights`: every class counts alike, however many images it has."""

    joins: ClassVar[bool] = True

    def fit(self, task: Task) -> Fit:
        from tasks.train.fusion.ensemble import fit_ensemble, fit_ensemble_cross_validated
        from tasks.train.solvers import fit_linear, fit_linear_cross_validated

        keys: dict[str, Any] = {"classes": task.classes, "balance": self.balance}
        if task.is_cross_validated:
            alone = partial(fit_linear_cross_validated, seed=task.seed, groups=task.groups, **keys)
            return fit_ensemble_cross_validated(task.everything, task.parts, alone)
        return fit_ensemble(task.train, task.validation, task.parts, partial(fit_linear, **keys))

    @classmethod
    def space(cls, draw: Any) -> dict[str, Any]:
        return {"balance": draw.suggest_categorical("balance", ["none", "weights"])}
