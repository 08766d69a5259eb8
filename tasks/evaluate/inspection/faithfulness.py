"""Whether a heat map shows what the answer rests on: pixels are taken away, and given back, in its order.

Petsiuk, Das & Saenko (2018, "RISE: Randomized input sampling for explanation of black-box models"). Deletion: the most
important pixels first are painted in the mean colour of the network's training images; the sooner the probability
falls, the better the map. Insertion: they are put, first, into a blurred copy; the sooner it rises, the better. Both
are areas under the probability over the share of pixels. Only a comparison says something: with maps of random numbers,
as coarse as the real ones, and with a blob in the middle, where photographers put what they mean.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from torchvision.transforms.v2 import functional as F

from tasks.evaluate.decisions.costs import mean_of
from tasks.evaluate.inspection.looking import Looker
from tasks.evaluate.inspection.saliency import enlarged
from tasks.evaluate.scores.intervals import Sample
from tasks.evaluate.scores.paired import Difference, differences
from tasks.progress import progress

STEPS = 8
"""Parts that an image is taken apart in."""

PASSES = 3 * 2 * (STEPS + 1)
"""Of the network, for each image."""

BLUR = 1 / 8
"""Standard deviation of the blur, of the image's side: what remains says next to nothing."""

RESAMPLES = 1000
MEASURES = ("deletion", "insertion", "faithfulness")
"""The last is insertion less deletion."""


def measure_faithfulness(
    looker: Looker, pixels: torch.Tensor, classes: torch.Tensor, maps: torch.Tensor, sample: Sample, seed: int = 0
) -> tuple[pd.DataFrame, Difference]:
    """Hold maps against random ones and against the middle.

    Args:
        pixels: uint8 ``[N, 3, S, S]``.
        classes: that the maps speak of, int64 ``[N]``.
        maps: float32 ``[N, h, w]``.

    Returns:
        The table of `tasks.records.Inspection`, and the difference of the faithfulness to that of random maps.
    """
    kinds = {"map": maps, "random": _random(maps, seed), "centre": _centre(maps)}
    areas: dict[str, dict[str, np.ndarray]] = {}
    with progress("explain", len(kinds) * len(pixels), "img") as advance:
        for kind, each in kinds.items():
            areas[kind] = _areas(looker, pixels, classes, enlarged(each, pixels.shape[-1]))
            advance(len(pixels))
    rows, found = [], {}
    for other in ("random", "centre"):
        ours, theirs = (mean_of(areas[kind]) for kind in ("map", other))
        for measure, difference in differences(ours, theirs, sample, RESAMPLES).items():
            found[other, measure] = difference
            rows.append(
                {"against": other, "measure": measure, "images": len(pixels), "map": difference.ours,
                 "other": difference.theirs, "difference": difference.value, "low": difference.low,
                 "high": difference.high}
            )  # fmt: skip
    return pd.DataFrame(rows), found["random", "faithfulness"]


def deletion_and_insertion(
    looker: Looker, pixels: torch.Tensor, classes: torch.Tensor, maps: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Both areas, each ``[N]`` in 0..1, of maps as large as the images, ``[N, S, S]``."""
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).reshape(maps.shape)
    mean = looker.engine.backbone.mean.cpu().reshape(1, 3, 1, 1).round().to(torch.uint8)
    painted, blurred = mean.expand_as(pixels), _blurred(pixels)
    curves: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for step in range(STEPS + 1):
        chosen = (order < step / STEPS * maps[0].numel())[:, None]
        for curve, (inside, outside) in zip(curves, ((painted, pixels), (pixels, blurred)), strict=True):
            seen = looker.probabilities(torch.where(chosen, inside, outside))
            curve.append(seen.gather(1, classes[:, None])[:, 0])
    deletion, insertion = (torch.trapezoid(torch.stack(curve), dim=0).numpy() / STEPS for curve in curves)
    return deletion, insertion


def _areas(looker: Looker, pixels: torch.Tensor, classes: torch.Tensor, maps: torch.Tensor) -> dict[str, np.ndarray]:
    deletion, insertion = deletion_and_insertion(looker, pixels, classes, maps)
    return dict(zip(MEASURES, (deletion, insertion, insertion - deletion), strict=True))


def _random(maps: torch.Tensor, seed: int) -> torch.Tensor:
    return torch.rand(maps.shape, generator=torch.Generator().manual_seed(seed))


def _centre(maps: torch.Tensor) -> torch.Tensor:
    height, width = maps.shape[1:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return (-(x**2 + y**2)).exp().expand_as(maps)


def _blurred(pixels: torch.Tensor) -> torch.Tensor:
    deviation = BLUR * pixels.shape[-1]
    reach = min(math.ceil(3 * deviation), pixels.shape[-1] - 1)
    return F.gaussian_blur(pixels, [2 * reach + 1, 2 * reach + 1], [deviation, deviation])
