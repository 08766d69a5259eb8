"""Whether two samples of embeddings are of one kind, and how far apart they are if not.

Both tests are by permutation: were the samples of one kind, any other division of the same images would give as large a
statistic as often. So p is right whatever the embeddings look like. Where images come in groups, groups are divided.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

PERMUTATIONS = 500
"""Divisions that are tried: the least p is 1 in 501."""

SURE, SMALL = 0.01, 0.2
"""Samples are told to be unlike where p is below the one and the effect above the other (Cohen 1988, "Statistical power
analysis for the behavioral sciences": 0.2 is small, 0.5 medium, 0.8 large)."""

FOLDS = 5

RIDGE = 0.1
"""Of the classifier, in units of the mean squared length of an embedding."""


@dataclass(frozen=True)
class Shift:
    """What two samples say.

    Attributes:
        images: of each.
        p: of the maximum mean discrepancy.
        effect: the distance of the two mean embeddings in the kernel's space, in units of the samples' own deviation
            there: Cohen's d, so that it means the same for every network.
        auc: how often a classifier of the two takes an image of the second for likelier of the second than one of the
            first; 0.5 where it cannot tell them apart.
        p_auc: of that.
    """

    images: tuple[int, int]
    p: float
    effect: float
    auc: float
    p_auc: float

    @property
    def is_unlike(self) -> bool:
        """Whether that is worth a word."""
        return self.p < SURE and self.effect > SMALL


def compare_samples(
    first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None, seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> Shift:  # fmt: skip
    """Test whether two samples are of one kind: maximum mean discrepancy (Gretton et al. 2012, "A kernel two-sample
    test") and a classifier two-sample test (Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample tests").

    Args:
        first, second: embeddings float32 ``[n, width]`` and ``[m, width]``, at least two each.
        groups: of the images of both, int ``[n + m]``, where they come in groups; none spans both samples.
    """
    both = np.concatenate([first, second]).astype(np.float32)
    random = np.random.default_rng(seed)
    units = np.arange(len(both)) if groups is None else np.unique(groups, return_inverse=True)[1]
    is_second = _divisions(units, np.arange(len(both)) >= len(first), permutations, random)
    squares = squared_distances(both)
    discrepancies = _discrepancies(_kernel(squares), is_second)
    areas = _areas(_out_of_fold(both, units, is_second, random), is_second)
    return Shift(
        (len(first), len(second)), _p(discrepancies), effect_size(first, second, squares), float(areas[0]), _p(areas)
    )


def effect_size(
    first: np.ndarray, second: np.ndarray, squares: np.ndarray | None = None, *, paired: bool = False
) -> float:
    """How far apart two samples are; see `Shift`. The discrepancy is the unbiased one, 0 where it is negative.

    Args:
        squares: squared distances of all images of both, where they are known.
        paired: whether row i of both is the same image, so that these pairs say nothing of the distance.
    """
    n = len(first)
    if squares is None:
        squares = squared_distances(np.concatenate([first, second]).astype(np.float32))
    kernel = _kernel(squares)
    own, other, across = kernel[:n, :n], kernel[n:, n:], kernel[:n, n:]
    alike = [(block.sum() - np.trace(block)) / (len(block) * (len(block) - 1)) for block in (own, other)]
    between = (across.sum() - np.trace(across)) / (n * (n - 1)) if paired else across.mean()
    spread = 1 - sum(alike) / 2
    return float(np.sqrt(max(0.0, sum(alike) - 2 * between) / spread)) if spread > 0 else 0.0


def squared_distances(points: np.ndarray) -> np.ndarray:
    """Of each to each: float32 ``[N, N]``."""
    centred = points - points.mean(0)
    lengths = (centred**2).sum(1)
    return np.maximum(lengths[:, None] + lengths[None] - 2 * centred @ centred.T, 0)


def _kernel(squares: np.ndarray) -> np.ndarray:
    """Gaussian, as wide as the median of the distances, which is the same however the images are divided."""
    width = float(np.median(squares[np.triu_indices(len(squares), 1)])) or 1.0
    kernel = np.exp(-squares / width)
    np.fill_diagonal(kernel, 1.0)
    return kernel


def _divisions(units: np.ndarray, is_second: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """The division as it is, and others of the same units: bool ``[1 + count, N]``."""
    of_unit = np.zeros(int(units.max()) + 1, bool)
    of_unit[units] = is_second
    drawn = random.permuted(np.tile(of_unit, (count, 1)), axis=1)
    return np.concatenate([is_second[None], drawn[:, units]])


def _discrepancies(kernel: np.ndarray, is_second: np.ndarray) -> np.ndarray:
    """Squared distances of the two means in the kernel's space, without each image's own part: ``[1 + P]``."""
    later = is_second.astype(np.float32)
    earlier = 1 - later
    m, n = later.sum(1), earlier.sum(1)
    across = ((earlier @ kernel) * later).sum(1) / np.maximum(m * n, 1)
    return _within(kernel, earlier, n) + _within(kernel, later, m) - 2 * across


def _within(kernel: np.ndarray, chosen: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Mean of the kernel over pairs of different images that are both chosen."""
    return (((chosen @ kernel) * chosen).sum(1) - sizes) / np.maximum(sizes * (sizes - 1), 1)


def _out_of_fold(
    points: np.ndarray, units: np.ndarray, is_second: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Scores ``[1 + P, N]`` of Fisher's linear classifier, fitted by ridge regression to the other folds.

    Least squares are linear in the labels: one factorisation a fold answers for all divisions, where a logistic
    regression would have to be fitted thousands of times for its p-value.
    """
    order = random.permutation(int(units.max()) + 1)
    fold = (order % FOLDS)[units]
    centred = points - points.mean(0)
    products = centred @ centred.T
    labels = is_second.astype(np.float64).T
    scores = np.zeros((len(points), len(is_second)))
    for number in range(FOLDS):
        out, kept = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        if not len(out) or not len(kept):
            continue
        inner = products[np.ix_(kept, kept)].astype(np.float64)
        inner[np.diag_indices(len(kept))] += RIDGE * np.trace(inner) / len(kept) + 1e-9
        centred_labels = labels[kept] - labels[kept].mean(0)
        scores[out] = products[np.ix_(out, kept)] @ np.linalg.solve(inner, centred_labels)
    return scores.T


def _areas(scores: np.ndarray, is_second: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each row, ``[1 + P]``, by the ranks of the second sample's images."""
    later = is_second.sum(1)
    ranks = rankdata(scores, axis=1)
    sums = (ranks * is_second).sum(1)
    return (sums - later * (later + 1) / 2) / np.maximum(later * (is_second.shape[1] - later), 1)


def _p(statistics: np.ndarray) -> float:
    """The share of divisions, the real one among them, whose statistic is as large."""
    return float((statistics >= statistics[0] - 1e-9).mean())
