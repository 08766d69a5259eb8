"""Labelled features moved to the target's images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.train.adaptation.aligning import Aligning

if TYPE_CHECKING:
    import torch

    from tasks.train.adaptation.alignment import Aligned
    from tasks.train.targets import Labelled


class OptimalTransport(Aligning):
    """Domain adaptation by a plan of transport: labelled features move to the target's images, as little in all as they
    can, images of one class together, and a linear head is solved on them (Courty et al. 2017). Up to 1,024 images of
    each domain take part in the plan, the others move like their nearest neighbour among them."""

    method: Literal["optimal_transport"] = "optimal_transport"
    entropy: float = Field(default=0.05, gt=0)
    """How much the plan's entropy counts, in units of the mean cost; the more, the more images of the target each one
    is spread over."""
    class_regularisation: float = Field(default=0.1, ge=0)
    """How much it counts that an image of the target is given one class only, in units of the mean cost."""

    def align(self, train: Labelled, validation: Labelled, target: torch.Tensor, seed: int = 0) -> Aligned:
        from tasks.train.adaptation.transport import transported

        return transported(train, validation, target, self.entropy, self.class_regularisation, seed)
