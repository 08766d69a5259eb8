"""Figures of merit of a classifier on one split, each with a 95% interval.

One label an image; see `tasks.evaluate.multi_label` for several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from sklearn.metrics import confusion_matrix, log_loss, roc_auc_score

from tasks.evaluate.intervals import SURE, Figures, Interval, Sample

CALIBRATION_BINS = 15

RANKED = 200
"""Most resamples of the figures that need all images in the order of their scores, class by class."""


@dataclass(frozen=True)
class Scores:
    """What `score` measures.

    Attributes:
        metrics: accuracy; precision_macro, recall_macro, f1_macro; roc_auc_macro; log_loss; ece.
        per_class: one row per class: label, images, precision, recall, f1, roc_auc. What is undefined (the recall
            of a class without images) is NaN.
        sure: accuracy with its 99% interval.
        confusion: int64 ``[C, C]``; rows are true classes, columns predicted ones.
    """

    metrics: dict[str, Interval]
    sure: Interval
    per_class: pd.DataFrame = field(repr=False)
    confusion: np.ndarray = field(repr=False)


def score(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], *, groups: np.ndarray | None = None,
    resamples: int = 1000, seed: int = 0,
) -> Scores:  # fmt: skip
    """Measure predictions.

    Macro figures are means over the classes that have images. The interval of accuracy is Wilson's. The others are
    bootstrap intervals over images or, where these come in groups, over the groups; see
    `tasks.evaluate.intervals.Sample`.

    Args:
        labels: true classes int ``[N]``.
        probabilities: float ``[N, C]``, rows sum to 1.
        groups: of each image int ``[N]`` from 0, where images come in groups.
    """
    probabilities = probabilities.astype(np.float64)
    probabilities /= probabilities.sum(1, keepdims=True)
    predicted = probabilities.argmax(1)
    confusion = confusion_matrix(labels, predicted, labels=range(len(classes)))
    table = dict(zip(("precision", "recall", "f1"), precision_recall_f1(confusion), strict=True))
    areas = roc_auc(labels, probabilities)
    sample = Sample(len(labels), groups, seed)
    # One class against the other is the same question twice.
    values = {f"{name}_macro": float(mean_defined(each)) for name, each in table.items()} | {
        "roc_auc_macro": float(mean_defined(areas[len(classes) == 2 :])),
        "log_loss": float(log_loss(labels, probabilities, labels=range(len(classes)))),
        "ece": expected_calibration_error(labels, probabilities),
    }
    drawn = _resampled_macro(labels, predicted, len(classes), sample, resamples)
    drawn |= sample.resample(ranked(labels, probabilities), min(resamples, RANKED))
    metrics = {"accuracy": sample.share(predicted == labels)} | {
        name: sample.interval(value, drawn[name], bounded=name != "log_loss") for name, value in values.items()
    }
    per_class = pd.DataFrame({"label": list(classes), "images": confusion.sum(1), **table, "roc_auc": areas})
    return Scores(metrics, sample.share(predicted == labels, SURE), per_class, confusion)


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
    return float(np.abs(_gaps(labels, probabilities).sum(0)).sum() / len(labels))


def _resampled_macro(
    labels: np.ndarray, predicted: np.ndarray, classes: int, sample: Sample, resamples: int
) -> dict[str, np.ndarray]:
    """Macro precision, recall and F1 of resamples."""
    units, counts = sample.groups, np.ones(sample.units, np.int64)
    if units is None:
        # Images of one cell of the confusion matrix are alike: how many of each cell are drawn is all that counts.
        cells, counts = np.unique(labels * classes + predicted, return_counts=True)
        (labels, predicted), units = divmod(cells, classes), np.arange(len(cells))

    def tally(column: np.ndarray, counted: np.ndarray) -> csr_array:
        return csr_array((counted.astype(np.float64), (units, column)), shape=(len(counts), classes))

    every = np.ones(len(labels))
    sides = tally(labels, labels == predicted), tally(predicted, every), tally(labels, every)
    parts = [
        [mean_defined(figure) for figure in from_counts(*(drawn @ side for side in sides))]
        for drawn in sample.draws(resamples, counts)
    ]
    names = ("precision_macro", "recall_macro", "f1_macro")
    return {name: np.concatenate(each) for name, each in zip(names, zip(*parts, strict=True), strict=True)}


def decided(labels: np.ndarray, probabilities: np.ndarray) -> Figures:
    """The figures that the answers decide."""
    images, classes = probabilities.shape
    predicted, every = probabilities.argmax(1), np.ones(images)
    right = (predicted == labels).astype(np.float64)
    sides = [
        csr_array((counted, (np.arange(images), column)), shape=(images, classes))
        for column, counted in ((labels, right), (predicted, every), (labels, every))
    ]

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        macro = (mean_defined(figure) for figure in from_counts(*(weights @ side for side in sides)))
        names = ("precision_macro", "recall_macro", "f1_macro")
        return {"accuracy": weights @ right / weights.sum(1)} | dict(zip(names, macro, strict=True))

    return figures


def ranked(labels: np.ndarray, probabilities: np.ndarray) -> Figures:
    """The figures that each image's own probabilities decide."""
    images, classes = probabilities.shape
    losses = -np.log(probabilities[np.arange(images), labels].clip(np.finfo(np.float64).eps))
    gaps = _gaps(labels, probabilities)

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        areas = [weighted_areas(labels == c, probabilities[:, c], weights)[0] for c in range(classes == 2, classes)]
        drawn = weights.sum(1)  # groups differ in size
        return {
            "roc_auc_macro": mean_defined(np.array(areas).T),
            "log_loss": weights @ losses / drawn,
            "ece": np.abs(weights @ gaps).sum(1) / drawn,
        }

    return figures


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


def _gaps(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Of each image, in the bin of its confidence, 1 or 0 for right or wrong less the confidence: ``[N, bins]``."""
    confidence = probabilities.max(1)
    gaps = (probabilities.argmax(1) == labels) - confidence
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return np.where(bins[:, None] == np.arange(CALIBRATION_BINS), gaps[:, None], 0.0)


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where all of it is."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    return np.where(count > 0, np.where(known, values, 0).sum(-1) / np.maximum(count, 1), np.nan)
