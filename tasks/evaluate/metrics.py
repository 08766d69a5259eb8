"""Figures of merit of a classifier on one split, each with a 95% interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.stats import binomtest
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


def wilson(successes: int, trials: int) -> Interval:
    """A proportion and Wilson's 95% score interval."""
    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return successes / trials, float(interval.low), float(interval.high)


def precision_recall_f1(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per class from confusion matrices ``[..., C, C]``: three arrays ``[..., C]``.

    A class without images is NaN throughout. A class that is never predicted has precision 0, as in
    scikit-learn.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    true, predicted = confusion.sum(-1), confusion.sum(-2)
    there = np.where(true > 0, 1.0, np.nan)
    return (
        hits / np.maximum(predicted, 1) * there,
        hits / np.maximum(true, 1) * there,
        2 * hits / np.maximum(true + predicted, 1) * there,
    )


def roc_auc(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against the rest, float ``[C]``; NaN where one side is empty."""
    positives = [labels == c for c in range(probabilities.shape[1])]
    return np.array(
        [roc_auc_score(p, probabilities[:, c]) if 0 < p.sum() < len(p) else np.nan for c, p in enumerate(positives)]
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
    values = [_mean(each) for each in precision_recall_f1(confusion)]
    drawn: list[list[float]] = [[], [], []]
    occupied = np.flatnonzero(confusion)
    shares = confusion.ravel()[occupied] / count
    for _ in range(resamples):
        cells = np.zeros(confusion.size, dtype=np.int64)
        cells[occupied] = random.multinomial(count, shares)
        for kept, each in zip(drawn, precision_recall_f1(cells.reshape(confusion.shape)), strict=True):
            kept.append(_mean(each))
    return {name: _percentiles(value, kept) for name, value, kept in zip(names, values, drawn, strict=True)}


def _resampled_intervals(
    labels: np.ndarray, probabilities: np.ndarray, resamples: int, random: np.random.Generator
) -> dict[str, Interval]:
    images, classes = probabilities.shape
    weights = random.multinomial(images, np.full(images, 1 / images), size=resamples).astype(np.float64)
    # One class against the other is the same question twice.
    areas = roc_auc(labels, probabilities)[classes == 2 :]
    drawn = [_weighted_auc(labels == c, probabilities[:, c], weights) for c in range(classes == 2, classes)]
    resampled = [_mean(each) for each in np.array(drawn).T]
    losses = -np.log(probabilities[np.arange(images), labels].clip(np.finfo(np.float64).eps))
    return {
        "roc_auc_macro": _percentiles(_mean(areas), resampled),
        "log_loss": _percentiles(
            float(log_loss(labels, probabilities, labels=range(classes))), weights @ losses / images
        ),
        "ece": _percentiles(*_calibration(labels, probabilities, weights)),
    }


def _weighted_auc(positive: np.ndarray, scored: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve under each row of image weights ``[R, N]``: the share of (positive, negative)
    pairs in the right order (Mann-Whitney U), ties counting half. Float ``[R]``, NaN without pairs."""
    pairs = (weights @ positive) * (weights @ ~positive)
    right = np.zeros(len(weights))
    for first in (positive, ~positive):
        order = np.lexsort((first, scored))
        ordered = weights[:, order]
        below = np.cumsum(ordered * ~positive[order], axis=1)
        right += (below * ordered * positive[order]).sum(1) / 2
    return np.divide(right, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def _calibration(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    confidence = probabilities.max(1)
    gaps = (probabilities.argmax(1) == labels) - confidence
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    binned = np.where(bins[:, None] == np.arange(CALIBRATION_BINS), gaps[:, None], 0.0)
    resampled = np.abs(weights @ binned).sum(1) / len(labels)
    return expected_calibration_error(labels, probabilities), resampled


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _percentiles(value: float, resampled: Sequence[float] | np.ndarray) -> Interval:
    defined = [each for each in resampled if not np.isnan(each)]
    if not defined:
        return value, float("nan"), float("nan")
    low, high = np.percentile(defined, [2.5, 97.5])
    return value, float(low), float(high)
