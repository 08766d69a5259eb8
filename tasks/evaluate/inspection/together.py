"""Which parts of an image speak for a class, where several networks look at it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch.nn.functional import interpolate, pad

from tasks.evaluate.inspection.looking import Looker
from tasks.evaluate.inspection.saliency import Saliency


class Mapper(Protocol):
    """What gives maps of a classifier's answers; see `Saliency.maps`."""

    def maps(self, pixels: torch.Tensor, classes: torch.Tensor) -> torch.Tensor: ...


class Together:
    """The sum of the networks' maps, each of which says what its positions add to the answer while the others' features
    stay. Where the head is linear on averaged features, the sum is all that positions add."""

    def __init__(self, looker: Looker) -> None:
        self.looker = looker

    def maps(self, pixels: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """As `Saliency.maps`, as fine as the finest of the networks' maps.

        Raises:
            ConfigurationError: no layer of a network has positions that the answer depends on.
        """
        whole, begin = self.looker.features(pixels), 0
        found, shares = [], []
        for engine in self.looker.engines:
            seen = self.looker.part(engine, pixels)
            found.append(Saliency(engine.backbone, self.looker.head, begin).maps(seen, classes, whole))
            shares.append(engine.recipe.crop)
            begin += engine.forward(seen[:1].to(engine.device)).shape[1]
        return _summed(found, shares)


def saliency_of(looker: Looker) -> Mapper:
    """What maps a candidate's answers."""
    return Together(looker) if looker.beside else Saliency(looker.engine.backbone, looker.head)


def _summed(maps: Sequence[torch.Tensor], shares: Sequence[float]) -> torch.Tensor:
    """Maps ``[N, h, w]``, each of a share of the square's side in its middle, as one of the whole square."""
    side = max(round(each.shape[-1] / share) for each, share in zip(maps, shares, strict=True))
    return torch.stack([_placed(each, share, side) for each, share in zip(maps, shares, strict=True)]).sum(0)


def _placed(maps: torch.Tensor, share: float, side: int) -> torch.Tensor:
    """Maps in the middle of a square of ``side`` positions; what they add up to stays."""
    inside = max(1, round(side * share))
    scaled = interpolate(maps[:, None], size=[inside, inside], mode="bilinear", align_corners=False)[:, 0]
    scaled = scaled * (maps[0].numel() / inside**2)
    lost = maps.sum((1, 2)) - scaled.sum((1, 2))  # at the borders
    scaled = scaled + lost[:, None, None] / inside**2
    before = (side - inside) // 2
    return pad(scaled, [before, side - inside - before] * 2)
