"""Figures of merit where an image has a number, each with a 95% interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.stats import norm

from tasks.evaluate.scores.calibration import calibration_interval
from tasks.evaluate.scores.intervals import LEVEL, SURE, Figures, Interval, Sample, wilson
from tasks.evaluate.scores.metrics import at_once

PROMISED = 0.9
"""Share of the images whose number lies within the interval that they are given."""

LEVELS = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
"""Of the intervals that the spread is tried by."""

NARROW = 1e-12
"""Of the spread of the numbers: what a Gaussian is as wide as at least, so that its likelihood is finite."""


@dataclass(frozen=True)
class NumberScores:
    """What `score_numbers` measures.

    Attributes:
        metrics: mae and rmse, the mean absolute error and the root of the mean squared one, and bias, the mean of the
            predicted less the true numbers, all in the unit of the number; r2, the share of its variance that is
            explained; coverage_90, the share of images whose number lies within their 90% interval; nll, the mean
            negative logarithm of the Gaussian density at the true number (so it depends on the unit);
            calibration_error, the mean over `LEVELS` of how far the share of images within their intervals of that
            level is from it (Kuleshov, Fenner & Ermon 2018, "Accurate uncertainties for deep learning using calibrated
            regression", 3.5, of intervals around the middle and of distances instead of squares).
        sure: r2 with its 99% interval.
        spread: a row for each of `LEVELS`: level, coverage, low, high (Wilson's interval; each image by itself) and
            width, the mean of the intervals'.
    """

    metrics: dict[str, Interval]
    sure: Interval
    spread: pd.DataFrame = field(repr=False)


def score_numbers(
    targets: np.ndarray, mean: np.ndarray, spread: np.ndarray, *, groups: np.ndarray | None = None,
    resamples: int = 1000, seed: int = 0,
) -> NumberScores:  # fmt: skip
    """Measure predictions of a number.

    Intervals are as those of `tasks.evaluate.scores.metrics.score`: of errors by the variance of their logarithm in the
    bootstrap's resamples, of r2 so that of what is not explained; of bias and nll, which may be any number, normal.
    Over groups, they are with Student's quantile.

    Args:
        targets: true numbers, float ``[N]``.
        mean, spread: what is predicted, and the standard deviation that it comes with, above 0: float ``[N]``.
        groups: of each image int ``[N]`` from 0, where images come in groups.
    """
    targets, mean, spread = (np.asarray(each, np.float64) for each in (targets, mean, spread))
    sample = Sample(len(targets), groups, seed)
    figures = measures(targets, mean, spread)
    values, drawn = at_once(figures, len(targets)), sample.resample(figures, resamples)
    metrics = {name: sample.interval(values[name], drawn[name], bounded=False) for name in ("mae", "rmse")}
    metrics["r2"] = _explained(values["r2"], drawn["r2"], sample, LEVEL)
    means = {"bias": mean - targets, "nll": densities(targets, mean, spread)}
    for name, each in means.items():
        metrics[name] = sample.anywhere(values[name], (each - values[name]) / len(targets))
    metrics["coverage_90"] = sample.share(within(targets, mean, spread, PROMISED))
    metrics["calibration_error"] = calibration_interval(spread_gaps(targets, mean, spread), sample, seed)
    sure = _explained(values["r2"], drawn["r2"], sample, SURE)
    return NumberScores(metrics, sure, spread_table(targets, mean, spread))


def measures(targets: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> Figures:
    """All figures but calibration_error, under weights of the images; r2 is NaN where all numbers are the same."""
    away = mean - targets
    parts = {
        "mae": np.abs(away), "squares": away**2, "bias": away, "nll": densities(targets, mean, spread),
        "coverage_90": within(targets, mean, spread, PROMISED).astype(np.float64),
    }  # fmt: skip
    centred = targets - targets.mean()

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        drawn = weights.sum(1)
        found = {name: weights @ part / drawn for name, part in parts.items()}
        squares = found.pop("squares")
        variance = weights @ centred**2 / drawn - (weights @ centred / drawn) ** 2
        known = variance > 1e-12 * max(float((centred**2).mean()), 1e-300)
        lost = np.divide(squares, variance, out=np.full(len(squares), np.nan), where=known)
        return {"mae": found["mae"], "rmse": np.sqrt(squares), "r2": 1 - lost} | {
            name: found[name] for name in ("bias", "nll", "coverage_90")
        }

    return figures


def calibrated(targets: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> Figures:
    """calibration_error under weights of the images, for comparing two models: chance makes both too large."""
    gaps = spread_gaps(targets, mean, spread)
    return lambda weights: {"calibration_error": np.abs(weights @ gaps).sum(1) / weights.sum(1)}


def densities(targets: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Negative logarithms of the Gaussian densities at the true numbers, float64 ``[N]``."""
    least = NARROW * max(float(targets.std()), 1e-300)
    return np.asarray(-norm.logpdf(targets, mean, np.maximum(spread, least)))


def within(targets: np.ndarray, mean: np.ndarray, spread: np.ndarray, level: float) -> np.ndarray:
    """Whether each number lies within its interval of a level around the middle, bool ``[N]``."""
    return np.asarray(np.abs(targets - mean) <= quantile_of(level) * spread)


def quantile_of(level: float) -> float:
    """How many standard deviations an interval of a level reaches to either side."""
    return float(norm.ppf((1 + level) / 2))


def spread_gaps(targets: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Of each image and each of `LEVELS`, whether the number lies within, 1 or 0, less the level, by their number:
    ``[N, 9]``. The calibration error is the sum of the absolute means over the images."""
    inside = np.abs(targets - mean)[:, None] <= spread[:, None] * np.array([quantile_of(level) for level in LEVELS])
    return (inside - np.array(LEVELS)) / len(LEVELS)


def spread_table(
    targets: np.ndarray, mean: np.ndarray, spread: np.ndarray, levels: Sequence[float] = LEVELS
) -> pd.DataFrame:
    """The table of `NumberScores.spread`."""
    rows = []
    for level in levels:
        inside = within(targets, mean, spread, level)
        share, low, high = wilson(int(inside.sum()), len(inside))
        width = 2 * quantile_of(level) * float(spread.mean())
        rows.append({"level": level, "coverage": share, "low": low, "high": high, "width": width})
    return pd.DataFrame(rows)


def _explained(value: float, drawn: np.ndarray, sample: Sample, level: float) -> Interval:
    """What is not explained is positive."""
    lost, low, high = sample.interval(1 - value, 1 - drawn, level, bounded=False)
    return 1 - lost, 1 - high, 1 - low
