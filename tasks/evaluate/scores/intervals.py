"""How sure a figure is: intervals over the images of a split or, where these come in groups, over the groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.stats import binomtest, norm, sem, t

from tasks.evaluate.scores.ranking import Linear
from tasks.groups import groups_among

Interval = tuple[float, float, float]
"""Value, lower and upper bound of its interval, of 95% unless said."""

LEVEL, SURE = 0.95, 0.99
"""Of the intervals that are reported, and of those that decide whether two figures disagree."""

TOGETHER = 1 << 22
"""Weights that are held at a time: 32 MiB."""

NOTHING = 1e-12
"""Of the largest a figure is in any resample: it is not taken for less in another."""

WIDEST = 1e6
"""How many times as large, or as small, as a figure that is positive the bounds of its interval may be; where they are
farther, it says nothing."""

Figures = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Takes weights of images float64 ``[R, N]`` and gives each figure under each row, ``[R]``."""


class Sample:
    """The images that figures are measured on, as draws from all those that a model will meet.

    Each image is a draw of its own or, where images come in groups, each group is. A percentile bootstrap is too narrow
    and off to one side where figures are near 1 or draws are few: over groups, it covered the truth in 6 of 10 samples
    of 5, 8 of 10 samples of 20. So its variance alone is taken, or that of the figure's derivatives (see
    `.ranking`), in Wilson's (1927) interval for as many images of a share as would vary so much. Over groups with
    Student's quantile of one degree of freedom less than there are (Korn & Graubard 1998,
    "Confidence intervals for proportions with small expected number of positive counts estimated from survey data";
    Dean & Pagano 2015, "Evaluating confidence interval methods for binomial proportions in clustered surveys"; on few
    groups, Cameron, Gelbach & Miller 2008, "Bootstrap-based improvements for inference with clustered errors").

    Attributes:
        images: how many.
        groups: of each image int64 ``[N]``, from 0 and without gaps (see `tasks.groups`), or None.
        units: how many draws these were: groups, or images.
    """

    def __init__(self, images: int, groups: np.ndarray | None = None, seed: int = 0) -> None:
        self.images, self.groups = images, groups
        self.units = images if groups is None else int(groups.max()) + 1
        self._random = np.random.default_rng(seed)

    def resample(self, figures: Figures, resamples: int) -> dict[str, np.ndarray]:
        """Figures of the bootstrap's resamples: how often an image was drawn is its weight."""
        parts = [
            figures(drawn if self.groups is None else drawn[:, self.groups])
            for drawn in self.draws(resamples, np.ones(self.units))
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def draws(self, resamples: int, counts: np.ndarray) -> Iterator[np.ndarray]:
        """How often each kind of unit is in each resample, a part of them at a time: float64 ``[r, K]``.

        Args:
            counts: units of each kind, ``[K]``.
        """
        rows = max(1, TOGETHER // max(self.images, len(counts)))
        for start in range(0, resamples, rows):
            size = min(rows, resamples - start)
            yield self._random.multinomial(self.units, counts / self.units, size=size).astype(np.float64)

    def share(self, right: np.ndarray, level: float = LEVEL) -> Interval:
        """The share of images of which ``right``, bool ``[N]``, is true; see `wilson`."""
        if self.groups is None:
            return wilson(int(right.sum()), self.images, level)
        value = float(right.mean())
        away = np.bincount(self.groups, weights=right - value)
        return self._over_units(value, float((away**2).sum()) / self.images**2, level, most=self.images)

    def linear(self, figure: Linear, level: float = LEVEL) -> Interval:
        """A figure in 0..1, by how it would change with each image."""
        value, variance = figure.value, float((self.within(figure.influence) ** 2).sum())
        if np.isnan(value):
            return value, float("nan"), float("nan")
        return self._over_units(value, variance, level, certain=figure.most)

    def within(self, influence: np.ndarray) -> np.ndarray:
        """Sums over what was drawn together: ``[N, ...]`` to ``[units, ...]``."""
        if self.groups is None:
            return influence
        sums = np.zeros((self.units, *influence.shape[1:]))
        np.add.at(sums, self.groups, influence)
        return sums

    def noise(self, away: np.ndarray, draws: int, seed: int = 0) -> np.ndarray | None:
        """What chance adds to means over the images: normal, float64 ``[draws, K]``; None where that cannot be known,
        of a single draw.

        Args:
            away: of each image, ``[N, K]``, less the mean.
        """
        if self.units == 1:
            return None
        sums = self.within(away) / self.images * (self.units / (self.units - 1)) ** 0.5
        random = np.random.default_rng(seed)
        shares, directions = np.linalg.eigh(sums.T @ sums)
        return random.normal(size=(draws, len(shares))) * np.sqrt(shares.clip(0)) @ directions.T

    def interval(
        self, value: float, resampled: Sequence[float] | np.ndarray, level: float = LEVEL, *, bounded: bool = True
    ) -> Interval:
        """A figure, by the variance of what the resamples gave; those in which it is undefined do not count.

        Args:
            bounded: whether it lies in 0..1; else it is positive, and its logarithm takes its place.
        """
        defined = np.asarray(resampled, np.float64)
        defined = defined[~np.isnan(defined)]
        if not len(defined) or np.isnan(value):
            return value, float("nan"), float("nan")
        if bounded:
            return self._over_units(value, float(defined.var()), level)
        least = NOTHING * float(defined.max()) or 1.0  # in the figure's own unit; 0 has no logarithm
        return self._positive(value, float(np.log(np.maximum(defined, least)).var()), level)

    def anywhere(self, value: float, influence: np.ndarray, level: float = LEVEL) -> Interval:
        """A figure that may be any number, by how it would change with each image (``influence``, float64 ``[N]``):
        normal, over groups Student's; of one draw, no interval."""
        if self.units == 1 or np.isnan(value):
            return value, float("nan"), float("nan")
        variance = float((self.within(influence) ** 2).sum()) * self.units / (self.units - 1)
        half = self.quantile(level) * variance**0.5
        return value, value - half, value + half

    def _over_units(
        self, value: float, variance: float, level: float, *, most: float = float("inf"), certain: float = float("inf")
    ) -> Interval:
        """Wilson's interval for at most ``most`` images that vary as the draws do, for ``certain`` where none does."""
        if self.units == 1:
            return value, 0.0, 1.0
        variance *= self.units / (self.units - 1)
        # Where nothing varies, no image of a group need say more than one.
        varies = variance > 0 and 0 < value < 1
        count = min(most, value * (1 - value) / variance) if varies else min(certain, self.units)
        return value, *_score_interval(value, count, self.quantile(level))

    def _positive(self, value: float, variance: float, level: float) -> Interval:
        if self.units == 1:
            return value, float("nan"), float("nan")
        factor = np.exp(self.quantile(level) * np.sqrt(variance * self.units / (self.units - 1)))
        if factor > WIDEST:
            return value, float("nan"), float("nan")
        return value, float(value / factor), float(value * factor)

    def quantile(self, level: float) -> float:
        """Of the normal distribution or, over groups, of Student's."""
        if self.groups is None:
            return float(norm.ppf((1 + level) / 2))
        return float(t.ppf((1 + level) / 2, self.units - 1))


def share_among(right: np.ndarray, chosen: np.ndarray, groups: np.ndarray | None = None) -> Interval:
    """The share of the ``chosen`` images (bool ``[N]``) of which ``right`` is true, with its interval; NaN of none."""
    if not chosen.any():
        return float("nan"), float("nan"), float("nan")
    return Sample(int(chosen.sum()), groups_among(groups, chosen)).share(right[chosen])


def wilson(successes: int, trials: int, level: float = LEVEL) -> Interval:
    """A proportion and Wilson's score interval."""
    interval = binomtest(successes, trials).proportion_ci(level, method="wilson")
    return successes / trials, float(interval.low), float(interval.high)


def disagree(first: Interval, second: Interval) -> bool:
    """Whether two figures, each with its 99% interval, differ by more than chance explains in 99 of 100 cases.

    The interval of the difference has the bounds of both (Newcombe 1998, "Interval estimation for the difference
    between independent proportions", method 10; Zou & Donner 2008 for figures of any kind).
    """
    (value, low, _), (other, _, above) = sorted((first, second), reverse=True)
    return bool(value - other > np.hypot(value - low, above - other))


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of a figure over repeated trainings, and Student's 95% interval of it; NaN, where there was but one."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * float(sem(values))
    return mean, mean - half, mean + half


def _score_interval(value: float, count: float, quantile: float) -> tuple[float, float]:
    """Wilson's bounds of a share of ``count`` draws, which need be no whole number."""
    spread = quantile**2 / count
    centre = (value + spread / 2) / (1 + spread)
    half = np.sqrt(spread * (value * (1 - value) + spread / 4)) / (1 + spread)
    # Of 0 and 1 the bounds are these themselves, but for rounding.
    return max(0.0, min(value, float(centre - half))), min(1.0, max(value, float(centre + half)))
