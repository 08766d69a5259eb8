"""Answers that may be withheld: the risk of those that are given, and a threshold that keeps it low."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import beta, t

from tasks.evaluate.scores.intervals import LEVEL, Sample
from tasks.groups import groups_among
from tasks.model.decisions import THRESHOLD

POINTS = 200
"""Most rows of the table that is drawn."""


def sureness(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """How sure each image's answer is, float64 ``[N]``: its probability or, where an image may have several labels
    (``targets`` are ``[N, C]``), that of all its decisions if each were by itself."""
    if targets.ndim == 1:
        return probabilities.max(1).astype(np.float64)
    return np.asarray(np.maximum(probabilities, 1 - probabilities).astype(np.float64).prod(1))


def rightness(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Whether each image's answer is right, with several labels all of it: bool ``[N]``."""
    if targets.ndim == 1:
        return np.asarray(probabilities.argmax(1) == targets)
    return np.asarray(((probabilities >= THRESHOLD) == (targets > 0)).all(1))


def area(confidence: np.ndarray, right: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The area under the risk-coverage curve as a function of weights ``[R, N]``: the mean, over the images, of the
    share of mistakes among those that are at least as sure (Geifman & El-Yaniv 2017, "Selective classification for
    deep neural networks"; Geifman et al. 2019, eq. 5). Smaller is better. Equally sure images are taken together.
    """
    order = np.argsort(-confidence, kind="stable")
    last = np.flatnonzero(np.diff(confidence[order], append=-np.inf))
    wrong = (~right[order]).astype(np.float64)

    def figure(weights: np.ndarray) -> np.ndarray:
        drawn = weights[:, order]
        seen, mistakes = (np.cumsum(each, axis=1)[:, last] for each in (drawn, drawn * wrong))
        steps = np.diff(seen, axis=1, prepend=0)
        return np.asarray((steps * mistakes / np.maximum(seen, 1e-12)).sum(1) / seen[:, -1])

    return figure


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    """The curve, from the surest answers to all: threshold, coverage (share of the images that are answered) and
    accuracy of these."""
    order = np.argsort(-confidence, kind="stable")
    last = np.flatnonzero(np.diff(confidence[order], append=-np.inf))
    if len(last) > POINTS:
        last = last[np.linspace(0, len(last) - 1, POINTS).round().astype(int)]
    accuracy = np.cumsum(right[order])[last] / (last + 1)
    return pd.DataFrame({
        "threshold": confidence[order][last], "coverage": (last + 1) / len(order), "accuracy": accuracy
    })  # fmt: skip


def least_sure(
    confidence: np.ndarray, right: np.ndarray, accuracy: float, groups: np.ndarray | None = None
) -> float | None:
    """The least confidence from which on answers are right as often as promised, in 95 of 100 samples of images like
    these; None where so few images can promise it of no threshold.

    Selection with guaranteed risk (Geifman & El-Yaniv 2017, algorithm 1): a binary search over the images in the order
    of their confidence, each of whose steps is a bound at 5% divided by their number. All images are looked at first:
    0 where every answer may be given.
    """
    ordered = np.sort(np.unique(confidence))[::-1]
    tests = int(np.log2(len(ordered))) + 2

    def holds(place: int) -> bool:
        chosen = confidence >= ordered[place]
        return most_mistakes(right[chosen], groups_among(groups, chosen), (1 - LEVEL) / tests) <= 1 - accuracy

    first, last = 0, len(ordered) - 1
    if holds(last):
        return 0.0
    found = None
    while first <= last:
        middle = (first + last) // 2
        if holds(middle):
            found, first = float(ordered[middle]), middle + 1
        else:
            last = middle - 1
    return found


def most_mistakes(right: np.ndarray, groups: np.ndarray | None, chance: float) -> float:
    """The upper bound of the share of mistakes that is too low with at most so much chance: Clopper & Pearson's (1934).
    Over groups, for as many images as would vary so much (Korn & Graubard 1998)."""
    sample, count = Sample(len(right), groups), float(len(right))
    share = 1 - float(right.mean())
    if groups is not None:
        if sample.units == 1:
            return 1.0
        away = sample.within(right - right.mean()) / count
        variance = float((away**2).sum()) * sample.units / (sample.units - 1)
        effective = share * (1 - share) / variance if variance > 0 and 0 < share < 1 else float(sample.units)
        narrow = t.ppf(1 - chance, max(count - 1, 1)) / t.ppf(1 - chance, sample.units - 1)
        count = min(count, effective * float(narrow) ** 2)
    return float(beta.ppf(1 - chance, count * share + 1, count * (1 - share))) if share < 1 else 1.0
