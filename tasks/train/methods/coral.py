"""Features of the labelled domains in the target's colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.train.adaptation.aligning import Aligning

if TYPE_CHECKING:
    import torch

    from tasks.train.adaptation.alignment import Aligned
    from tasks.train.targets import Labelled


class Coral(Aligning):
    """Domain adaptation in closed form: labelled features are whitened and given the target's covariance, and a linear
    head is solved on them (CORAL, Sun, Feng & Saenko 2016)."""

    method: Literal["coral"] = "coral"
    shrinkage: float = Field(default=1.0, gt=0)
    """What is added to both covariances along every axis, in units of a feature's variance."""

    def align(self, train: Labelled, validation: Labelled, target: torch.Tensor, seed: int = 0) -> Aligned:
        from tasks.train.adaptation.coral import recoloured

        return recoloured(train, validation, target, self.shrinkage)
