"""Figures of merit of a classifier on one split, each with a 95% interval.

One label an image; see `tasks.evaluate.multi_label` for several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.stats import binomtest, sem, t
from sklearn.metrics import confusion_matrix, log_loss, roc_auc_score

Interval = tuple[float, float, float]
"""Value, lower and upper bound of its 95% interval."""

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Scores:
    """What `score` measures.

    Attributes:
        metrics: accuracy; precision_macro, recall_macro, f1_macro; roc_auc_macro; log_loss; ece.
        per_class: one row per class: label, images, precision, recall, f1, roc_auc. What is undefined (the recall
            of a class without images) is NaN.
        confusion: int64 ``[C, C]``; rows are true classes, columns predicted ones.
    """

    metrics: dict[str, Interval]
    per_class: pd.DataFrame = field(repr=False)
    confusion: np.ndarray = field(repr=False)


def score(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], *, resamples: int = 1000, seed: int = 0
) -> Scores:
    """Measure predictions.

    The interval of accuracy is Wilson's (1927). The others are percentile bootstrap intervals over images: a
    resample of images is a multinomial draw of the confusion matrix's cells, which makes it cheap; for AUC, log
    loss and ECE it is a weight per image, at most 200 of them.

    Args:
        labels: true classes int ``[N]``.
        probabilities: float ``[N, C]``, rows sum to 1.
    """
    probabilities = probabilities.astype(np.float64)
    probabilities /= probabilities.sum(1, keepdims=True)
    predicted = probabilities.argmax(1)
    confusion = confusion_matrix(labels, predicted, labels=range(len(classes)))
    table = precision_recall_f1(confusion)
    areas = roc_auc(labels, probabilities)
    random = np.random.default_rng(seed)
    metrics = {"accuracy": wilson(int((predicted == labels).sum()), len(labels))}
    metrics |= _macro_intervals(confusion, resamples, random)
    metrics |= _resampled_intervals(labels, probabilities, min(resamples, 200), random)
    per_class = pd.DataFrame(
        {
            "label": list(classes),
            "images": confusion.sum(1),
            **dict(zip(("precision", "recall", "f1"), table, strict=True)),
            "roc_auc": areas,
        }
    )
    return Scores(metrics, per_class, confusion)


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of a figure over repeated trainings, and Student's 95% interval of it; at least two values."""
    mean, error = float(np.mean(values)), float(sem(values))
    half = float(t.ppf(0.975, len(values) - 1)) * error
    return mean, mean - half, mean + half


def wilson(successes: int, trials: int) -> Interval:
    """A proportion and Wilson's 95% score interval."""
    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return successes / trials, float(interval.low), float(interval.high)


def precision_recall_f1(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per class from confusion matrices ``[..., C, C]``: three arrays ``[..., C]``; see `from_counts`."""
    return from_counts(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-2), confusion.sum(-1))


def from_counts(hits: np.ndarray, given: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 per class: three arrays ``[..., C]``.

    A class without images is NaN throughout. A class that is never predicted has precision 0, as in
    scikit-learn.

    Args:
        hits: images ``[..., C]`` of each class that were given it.
        given: images that were given it, and ``true``: that are of it.
    """
    there = np.where(true > 0, 1.0, np.nan)
    return (
        hits / np.maximum(given, 1) * there,
        hits / np.maximum(true, 1) * there,
        2 * hits / np.maximum(true + given, 1) * there,
    )


def positives(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels int ``[N]``, or ones and zeros ``[N, C]``, as bool ``[N, C]``: whether an image is of a class."""
    return labels.astype(bool) if labels.ndim == 2 else labels[:, None] == np.arange(classes)


def roc_auc(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against the rest, float ``[C]``; NaN where one side is empty."""
    columns = positives(labels, probabilities.shape[1]).T
    return np.array(
        [roc_auc_score(p, probabilities[:, c]) if 0 < p.sum() < len(p) else np.nan for c, p in enumerate(columns)]
    )


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean gap between confidence and accuracy over 15 equal bins of confidence, weighted by images
    (Guo et al. 2017, "On calibration of modern neural networks", eq. 3)."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def _macro_intervals(confusion: np.ndarray, resamples: int, random: np.random.Generator) -> dict[str, Interval]:
    count = int(confusion.sum())
    names = ("precision_macro", "recall_macro", "f1_macro")
    values = [float(mean_defined(each)) for each in precision_recall_f1(confusion)]
    drawn: list[list[float]] = [[], [], []]
    occupied = np.flatnonzero(confusion)
    shares = confusion.ravel()[occupied] / count
    for _ in range(resamples):
        cells = np.zeros(confusion.size, dtype=np.int64)
        cells[occupied] = random.multinomial(count, shares)
        for kept, each in zip(drawn, precision_recall_f1(cells.reshape(confusion.shape)), strict=True):
            kept.append(float(mean_defined(each)))
    return {name: percentiles(value, kept) for name, value, kept in zip(names, values, drawn, strict=True)}


def _resampled_intervals(
    labels: np.ndarray, probabilities: np.ndarray, resamples: int, random: np.random.Generator
) -> dict[str, Interval]:
    images, classes = probabilities.shape
    weights = random.multinomial(images, np.full(images, 1 / images), size=resamples).astype(np.float64)
    # One class against the other is the same question twice.
    areas = roc_auc(labels, probabilities)[classes == 2 :]
    drawn = [weighted_areas(labels == c, probabilities[:, c], weights)[0] for c in range(classes == 2, classes)]
    resampled = mean_defined(np.array(drawn).T)
    losses = -np.log(probabilities[np.arange(images), labels].clip(np.finfo(np.float64).eps))
    return {
        "roc_auc_macro": percentiles(float(mean_defined(areas)), resampled),
        "log_loss": percentiles(
            float(log_loss(labels, probabilities, labels=range(classes))), weights @ losses / images
        ),
        "ece": percentiles(*_calibration(labels, probabilities, weights)),
    }


def weighted_areas(positive: np.ndarray, scored: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve and average precision under each row of image weights ``[R, N]``, float ``[R]``.

    As scikit-learn defines them, with whole numbers of images as weights: images of equal score are told apart by no
    threshold. NaN where there is nothing to measure: no positives or, for the first, no negatives.

    Args:
        positive: bool ``[N]``.
        scored: float ``[N]``.
    """
    order = np.argsort(-scored, kind="stable")
    ends = np.flatnonzero(np.diff(scored[order], append=-np.inf))  # the last of each run of equals
    drawn = weights.T[order]  # resamples side by side in memory: sums over images are twice as fast
    seen, hits = (np.cumsum(each, axis=0)[ends] for each in (drawn, drawn * positive[order, None]))
    misses = seen - hits
    gained = np.diff(hits, axis=0, prepend=0)
    under = (np.diff(misses, axis=0, prepend=0) * (hits - gained / 2)).sum(0)
    precise = (gained * hits / np.maximum(seen, 1)).sum(0)
    return _ratio(under, hits[-1] * misses[-1]), _ratio(precise, hits[-1])


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)


def _calibration(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    confidence = probabilities.max(1)
    gaps = (probabilities.argmax(1) == labels) - confidence
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    binned = np.where(bins[:, None] == np.arange(CALIBRATION_BINS), gaps[:, None], 0.0)
    resampled = np.abs(weights @ binned).sum(1) / len(labels)
    return expected_calibration_error(labels, probabilities), resampled


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where all of it is."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    return np.where(count > 0, np.where(known, values, 0).sum(-1) / np.maximum(count, 1), np.nan)


def percentiles(value: float, resampled: Sequence[float] | np.ndarray) -> Interval:
    """A value and the middle 95% of what the resamples gave; those where it is undefined do not count."""
    defined = [each for each in resampled if not np.isnan(each)]
    if not defined:
        return value, float("nan"), float("nan")
    low, high = np.percentile(defined, [2.5, 97.5])
    return value, float(low), float(high)
