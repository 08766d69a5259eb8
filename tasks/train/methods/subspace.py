"""Main axes of the labelled features turned towards the target's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.train.adaptation.aligning import Aligning

if TYPE_CHECKING:
    import torch

    from tasks.train.adaptation.alignment import Aligned
    from tasks.train.targets import Labelled


class Subspace(Aligning):
    """Domain adaptation in closed form: the axes along which labelled features vary most are turned towards those of
    the target, and a linear head is solved along them (subspace alignment, Fernando et al. 2013)."""

    method: Literal["subspace"] = "subspace"
    dimensions: int = Field(default=64, ge=1)
    """Axes of each domain, those of the largest variance; fewer where its images vary along fewer."""

    def align(self, train: Labelled, validation: Labelled, target: torch.Tensor, seed: int = 0) -> Aligned:
        from tasks.train.adaptation.subspace import turned

        return turned(train, validation, target, self.dimensions)
