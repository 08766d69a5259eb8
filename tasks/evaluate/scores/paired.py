"""Two models on the same images: by how much one is better, how sure that is, and what could have been seen at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm, t

from tasks.evaluate.scores.intervals import LEVEL, TOGETHER, Figures, Sample
from tasks.evaluate.scores.ranking import Linear

FLIPS = 10_000
"""Sign flips where these are too many to try them all."""

POWER = 0.8
"""Of the difference that a test is said to see."""

ROUNDING = 1e-9
"""Of all that is added up: sums that differ by less are the same, in whatever order and unit."""


@dataclass(frozen=True)
class Difference:
    """A figure of both, and ours less theirs with its 95% interval."""

    ours: float
    theirs: float
    value: float
    low: float
    high: float


def difference_of_shares(ours: np.ndarray, theirs: np.ndarray, groups: np.ndarray | None = None) -> Difference:
    """The difference of two shares of the same images.

    Its interval is Bonett & Price's (2012, "Adjusted Wald confidence interval for a difference of binomial proportions
    based on paired data"), which is not empty where no image tells the two apart; over groups, Student's of the sums
    within them.

    Args:
        ours, theirs: bool ``[N]``, whether each has an image right.
        groups: of each image int ``[N]`` from 0, where images come in groups.
    """
    gained, lost, count = int((ours & ~theirs).sum()), int((theirs & ~ours).sum()), len(ours)
    value = (gained - lost) / count
    if groups is None:
        up, down = (gained + 1) / (count + 2), (lost + 1) / (count + 2)
        middle, variance = up - down, (up + down - (up - down) ** 2) / (count + 2)
        half = float(norm.ppf((1 + LEVEL) / 2)) * variance**0.5
    else:
        middle, units = value, int(groups.max()) + 1
        away = np.bincount(groups, weights=ours.astype(float) - theirs - value)
        variance = float((away**2).sum()) / count**2 * units / max(1, units - 1)
        half = float(t.ppf((1 + LEVEL) / 2, units - 1)) * variance**0.5 if units > 1 else 2.0
    return Difference(float(ours.mean()), float(theirs.mean()), value, max(-1, middle - half), min(1, middle + half))


def differences(ours: Figures, theirs: Figures, sample: Sample, resamples: int) -> dict[str, Difference]:
    """Differences of any figures, by a bootstrap in which both see the same draws: the middle of them or, over groups,
    Student's interval of their variance."""
    whole = np.ones((1, sample.images))
    other = theirs(whole)
    values = {name: (float(value[0]), float(other[name][0])) for name, value in ours(whole).items()}

    def both(weights: np.ndarray) -> dict[str, np.ndarray]:
        other = theirs(weights)
        return {name: drawn - other[name] for name, drawn in ours(weights).items()}

    drawn = sample.resample(both, resamples)
    return {name: _difference(*values[name], drawn[name], sample) for name in values}


def differences_of_areas(
    ours: dict[str, Linear], theirs: dict[str, Linear], sample: Sample
) -> dict[str, Difference]:  # fmt: skip
    """Differences of figures of which is known how they would change with each image; their intervals are normal or,
    over groups, Student's."""
    return {name: _difference_of_areas(area, theirs[name], sample) for name, area in ours.items()}


def p_of(difference: Difference, sample: Sample) -> float:
    """Two-sided p-value of a difference of `differences_of_areas`; 1 where its interval is not known."""
    half = (difference.high - difference.low) / 2
    if np.isnan(half):
        return 1.0
    if half == 0:
        return float(difference.value == 0)
    away = abs(difference.value) / half * sample.quantile(LEVEL)
    return 2 * float(norm.sf(away) if sample.groups is None else t.sf(away, sample.units - 1))


def detectable_of(difference: Difference, sample: Sample) -> float:
    """As `detectable`, of a difference of `differences_of_areas`, by its own interval; NaN where that is not known."""
    half = (difference.high - difference.low) / 2
    if np.isnan(half):
        return float("nan")
    deviation = half / sample.quantile(LEVEL)
    return max(1 / sample.images, float(norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER)) * deviation)


def _difference_of_areas(ours: Linear, theirs: Linear, sample: Sample) -> Difference:
    value = ours.value - theirs.value
    if np.isnan(value) or sample.units == 1:
        return Difference(ours.value, theirs.value, value, float("nan"), float("nan"))
    sums = sample.within(ours.influence - theirs.influence)
    half = sample.quantile(LEVEL) * float((sums**2).sum() * sample.units / (sample.units - 1)) ** 0.5
    return Difference(ours.value, theirs.value, value, value - half, value + half)


def _difference(ours: float, theirs: float, drawn: np.ndarray, sample: Sample) -> Difference:
    value, known = ours - theirs, drawn[~np.isnan(drawn)]
    if np.isnan(value) or not len(known):
        return Difference(ours, theirs, value, float("nan"), float("nan"))
    if sample.groups is None:
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Difference(ours, theirs, value, float(low), float(high))
    if sample.units == 1:
        return Difference(ours, theirs, value, float("nan"), float("nan"))
    spread = float(known.std()) * np.sqrt(sample.units / (sample.units - 1))
    half = float(t.ppf((1 + LEVEL) / 2, sample.units - 1)) * spread
    return Difference(ours, theirs, value, value - half, value + half)


def p_value(ours: np.ndarray, theirs: np.ndarray, groups: np.ndarray | None = None, seed: int = 0) -> float:
    """How often two equally good models would differ by as much or more, two-sided.

    McNemar's exact test (1947, "Note on the sampling error of the difference between correlated proportions"): each
    image that one of them has right alone is a toss of a coin. Where images come in groups, each group is: its sum
    keeps or changes its sign (the sign-flip test, of which McNemar's is the one with groups of one).

    Args:
        ours, theirs: bool ``[N]``, whether each has an image right, or float, how large its error is: then each image's
            difference, or the sum of a group's, keeps or changes its sign.
    """
    if ours.dtype != bool:
        apart = ours - theirs
        sums = apart if groups is None else np.bincount(groups, weights=apart)
        return _sign_flip(sums[sums != 0], np.random.default_rng(seed))
    gained, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    if groups is None:
        return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    sums = np.bincount(groups, weights=ours.astype(float) - theirs)
    return _sign_flip(sums[sums != 0], np.random.default_rng(seed))


def _sign_flip(sums: np.ndarray, random: np.random.Generator) -> float:
    observed = abs(sums.sum()) - ROUNDING * abs(sums).sum()
    if 2 ** len(sums) <= FLIPS:
        signs = 1 - 2 * (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1)
        return float((abs(signs @ sums) >= observed).mean())
    # A part of the flips at a time: of many images, all would take gigabytes.
    rows = max(1, TOGETHER // len(sums))
    parts = [random.integers(0, 2, (min(rows, FLIPS - start), len(sums)), np.int8) for start in range(0, FLIPS, rows)]
    larger = sum(int((abs((2 * part - 1) @ sums) >= observed).sum()) for part in parts)
    return (larger + 1) / (FLIPS + 1)


def detectable(ours: np.ndarray, theirs: np.ndarray, groups: np.ndarray | None = None) -> float:
    """The difference of shares that McNemar's test at 5% finds in four of five samples of this size, if the two models
    disagree as often as here (Connor 1987, "Sample size for testing differences in proportions for the paired-sample
    design", without its small correction); where images come in groups, by as much more as their sums vary more.

    At least one image, as no sample shows less. Of errors, float ``[N]``, it is their mean difference.
    """
    count = len(ours)
    apart = ours.astype(float) - theirs
    if ours.dtype != bool:
        sums = apart - apart.mean() if groups is None else np.bincount(groups, weights=apart - apart.mean())
        return float(norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER)) * float((sums**2).sum()) ** 0.5 / count
    variance = max(float((apart**2).mean()), 1 / count) / count
    if groups is not None:
        variance = max(variance, float((np.bincount(groups, weights=apart) ** 2).sum()) / count**2)
    return max(1 / count, float(norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER)) * variance**0.5)


def holm(values: Sequence[float]) -> np.ndarray:
    """p-values of several questions, such that one of all the answers is wrong in 5 of 100 cases when those below 0.05
    are believed (Holm 1979, "A simple sequentially rejective multiple test procedure")."""
    order = np.argsort(values, kind="stable")
    raised = np.asarray(values, np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raised))
    return adjusted
