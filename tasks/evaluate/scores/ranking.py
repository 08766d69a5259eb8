"""Figures that the order of the images by score decides, and what each image adds to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata


@dataclass(frozen=True)
class Linear:
    """A figure, and how it would change with its images.

    Attributes:
        value: the figure; NaN where it is undefined.
        influence: its derivative by the weight of each image, float64 ``[N]``. Summed within what was drawn together
            and squared, it gives the figure's variance: the infinitesimal jackknife (Jaeckel 1972; Efron 1982, "The
            jackknife, the bootstrap and other resampling plans", 6), which of the area under the ROC curve is that of
            DeLong, DeLong & Clarke-Pearson (1988) and, over groups, of Obuchowski (1997).
        most: as how many images of a share it counts at best: what is certain where nothing varies.
    """

    value: float
    influence: np.ndarray
    most: float


Ranked = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]
"""Takes bool ``[N]``, which images are of a class, and their scores ``[N]``; gives value and influence."""


def roc_area(positive: np.ndarray, scored: np.ndarray) -> tuple[float, np.ndarray]:
    """Area under the ROC curve: how often a positive is above a negative; ties count half."""
    ranks, beneath = rankdata(scored), np.empty(len(scored))
    for side in (positive, ~positive):  # the share of the other side that is beneath
        beneath[side] = (ranks[side] - rankdata(scored[side])) / (~side).sum()
    value = beneath[positive].mean()
    counts = np.where(positive, positive.sum(), (~positive).sum())
    away = np.where(positive, beneath, 1 - beneath) - value
    return float(value), away / np.sqrt(counts * np.maximum(counts - 1, 1))


def average_precision(positive: np.ndarray, scored: np.ndarray) -> tuple[float, np.ndarray]:
    """Average precision, as scikit-learn defines it: no threshold tells images of equal score apart."""
    order = np.argsort(-scored, kind="stable")
    last = np.flatnonzero(np.diff(scored[order], append=-np.inf))  # of each run of equals
    run = np.searchsorted(last, np.arange(len(order)))
    true = positive[order].astype(np.float64)
    seen = (last + 1.0)[run]
    precise = np.cumsum(true)[last][run] / seen
    count = true.sum()
    value = float((true * precise).sum() / count)
    # An image raises or lowers the precision at each positive that is not above it.
    beneath = [_from_here(each / seen, run, last) for each in (true, true * precise)]
    influence = np.empty(len(order))
    influence[order] = (true * (precise - value) + true * beneath[0] - beneath[1]) / count
    return value, influence


def over_classes(figure: Ranked, positive: np.ndarray, probabilities: np.ndarray, both: bool) -> Linear:
    """The mean of a figure over the classes of which it is defined.

    Args:
        positive: bool ``[N, C]``.
        probabilities: float ``[N, C]``.
        both: whether it takes images that are of a class and others, or the former alone.
    """
    images, counts = len(positive), positive.sum(0)
    rarer = np.minimum(counts, images - counts) if both else counts
    there = np.flatnonzero(rarer)
    if not len(there):
        return Linear(float("nan"), np.zeros(images), float(images))
    parts = [figure(positive[:, c], probabilities[:, c]) for c in there]
    values, influences = zip(*parts, strict=True)
    return Linear(float(np.mean(values)), np.mean(influences, axis=0), len(there) ** 2 / (1 / rarer[there]).sum())


def _from_here(values: np.ndarray, run: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Sums of ``values`` from the run of each image on."""
    firsts = np.concatenate([[0], last[:-1] + 1])
    return np.cumsum(values[::-1])[::-1][firsts][run]
