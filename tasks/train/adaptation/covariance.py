"""How features vary together, and along which axes most."""

from __future__ import annotations

import math

import torch

MOST = 2_048
"""Images that a covariance of more units than that is measured on: 200 MB where there are 25,000 units."""

NOTHING = 1e-6
"""Share of the largest variance up to which there is none in float32."""


class Covariance:
    """C + shrinkage·I of standardised images float32 ``[N, width]``; shrinkage is in units of a feature's variance.

    Only axes along which the images vary are held, at most as many as images: along all others it is shrinkage·I.
    """

    def __init__(self, images: torch.Tensor, shrinkage: float = 0.0) -> None:
        count, width = images.shape
        if count > MOST and width > MOST:
            images = images[torch.randperm(count, generator=torch.Generator().manual_seed(0))[:MOST]]
        centred = (images - images.mean(0)) / math.sqrt(max(1, len(images) - 1))
        if len(images) < width:
            _, spread, axes = torch.linalg.svd(centred, full_matrices=False)
            self.values, self.axes = spread.square(), axes.T
        else:
            values, self.axes = torch.linalg.eigh(centred.T @ centred)
            self.values = values.clamp(min=0)
        self.shrinkage = shrinkage

    def power(self, images: torch.Tensor, exponent: float) -> torch.Tensor:
        """Images ``[N, width]`` times this matrix to the power of ``exponent``."""
        others = self.shrinkage**exponent
        along = (self.values + self.shrinkage) ** exponent - others
        return others * images + (images @ self.axes * along) @ self.axes.T

    def principal(self, dimensions: int) -> torch.Tensor:
        """Unit axes ``[width, d]`` along which the images vary most, that of the largest variance first: as many as
        asked for, or as the images vary along, but at least one."""
        order = self.values.argsort(descending=True)
        varying = int((self.values > NOTHING * self.values.max()).sum())
        return self.axes[:, order[: max(1, min(dimensions, varying))]]
