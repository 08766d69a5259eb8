"""Features of the labelled domains in the target's colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.train.method import Method

if TYPE_CHECKING:
    from tasks.train.solvers import Fit
    from tasks.train.task import Task


class Coral(Method):
    """Domain adaptation in closed form: labelled features are whitened and given the target's covariance, and a linear
    head is solved on them (CORAL, Sun, Feng & Saenko 2016)."""

    method: Literal["coral"] = "coral"
    shrinkage: float = Field(default=1.0, gt=0)
    """What is added to both covariances along every axis, in units of a feature's variance."""
    cautious: bool = True
    """Whether a linear head that has seen no image of the target is kept where criteria that need no labels do not
    agree that the adapted one is better (docs/adaptation.md)."""

    multi_label: ClassVar[bool] = False
    unlabelled: ClassVar[bool] = True

    def fit(self, task: Task) -> Fit:
        from tasks.train.adaptation.coral import fit_coral

        return fit_coral(task, self.shrinkage, self.cautious)
