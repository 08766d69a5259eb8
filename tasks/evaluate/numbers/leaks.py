"""What images with a near neighbour in training do to the error of numbers."""

from __future__ import annotations

import numpy as np

from tasks.evaluate.neighbours.leaks import RESAMPLES, Near, remedy_of
from tasks.evaluate.numbers.answers import Numbers
from tasks.evaluate.numbers.slices import mean_error
from tasks.evaluate.scores.intervals import Interval, Sample
from tasks.evaluate.scores.paired import differences
from tasks.groups import groups_among
from tasks.leak import Leak


def measure_number_leak(answers: Numbers, near: Near, seed: int = 0) -> Leak:
    """By what share the mean absolute error of all images is below that of those without a near neighbour.

    An upper estimate: images with near neighbours may be easier, leak or not.
    """
    close, errors = near.near, answers.errors
    return Leak(
        images=len(close),
        near=int(close.sum()),
        near_figure=float(errors[close].mean()) if close.any() else float("nan"),
        far=mean_error(errors[~close], groups_among(answers.groups, ~close)),
        inflation=_inflation(errors, ~close, Sample(len(close), answers.groups, seed)),
        remedy=remedy_of(near),
        error=True,
    )


def _inflation(errors: np.ndarray, far: np.ndarray, sample: Sample) -> Interval:
    kept = far.astype(np.float64)
    if not far.any():
        return float("nan"), float("nan"), float("nan")
    if far.all():
        return 0.0, 0.0, 0.0

    def whole(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"share": np.ones(len(weights))}

    def left(weights: np.ndarray) -> dict[str, np.ndarray]:
        """The error of all images, as a share of that of those without a near neighbour."""
        count, lost = weights @ kept, weights @ (kept * errors)
        there = (count > 0) & (lost > 0)
        alone = np.divide(lost, count, out=np.full(len(count), np.nan), where=there)
        return {"share": weights @ errors / weights.sum(1) / alone}

    found = differences(whole, left, sample, RESAMPLES)["share"]
    return found.value, found.low, found.high
