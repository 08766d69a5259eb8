"""Figures of merit of a classifier on one split, each with a 95% interval.

One label an image; see `tasks.evaluate.scores.multi_label` for several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from sklearn.metrics import confusion_matrix

from tasks.evaluate.scores.calibration import calibration_interval, confidences, gaps
from tasks.evaluate.scores.intervals import SURE, Figures, Interval, Sample
from tasks.evaluate.scores.ranking import Linear, average_precision, over_classes, roc_area
from tasks.evaluate.scores.selective import area

RANKED = 200
"""Most resamples of the figures that need all images in the order of their confidence."""

TOP = 5
"""Classes of which one has to be right, where there are more: `top_hits`."""


@dataclass(frozen=True)
class Scores:
    """What `score` measures.

    Attributes:
        metrics: accuracy, and top5_accuracy where there are more than five classes; balanced_accuracy, which is
            recall_macro; precision_macro, recall_macro, f1_macro; roc_auc_macro, average_precision_macro; log_loss;
            brier (Brier 1950: squared errors summed over the classes, 0..2); ece, ace (see
            `tasks.evaluate.scores.calibration.gaps`); aurc (see `tasks.evaluate.scores.selective.area`).
        per_class: one row per class: label, images, precision, recall, f1, roc_auc, average_precision. What is
            undefined (the recall of a class without images) is NaN.
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

    Macro figures are means over the classes that have images. The intervals of shares are Wilson's, over images or,
    where these come in groups, over the groups; the others' have the same form: see `Sample`,
    and `tasks.evaluate.scores.calibration.calibration_interval` for ece and ace.

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
    positive = positives(labels, len(classes))
    figures = areas(labels, probabilities)
    sample = Sample(len(labels), groups, seed)
    drawn = _resampled_macro(labels, predicted, len(classes), sample, resamples)
    drawn |= sample.resample(ranked(labels, probabilities), min(resamples, RANKED))
    values = {f"{name}_macro": float(mean_defined(each)) for name, each in table.items()}
    values |= at_once(ranked(labels, probabilities), len(labels))
    metrics = {"accuracy": sample.share(predicted == labels)}
    if len(classes) > TOP:
        metrics["top5_accuracy"] = sample.share(top_hits(labels, probabilities))
    metrics |= {name: measured(name, value, drawn[name], sample) for name, value in values.items()}
    metrics["balanced_accuracy"] = metrics["recall_macro"]
    metrics |= {name: sample.linear(figure) for name, figure in figures.items()}
    metrics |= calibration(labels, probabilities, sample, seed)
    per_class = pd.DataFrame({
        "label": list(classes), "images": confusion.sum(1), **table, **each_class(positive, probabilities)
    })  # fmt: skip
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


def each_class(positive: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Areas under the ROC curve and average precisions, each class against the rest: float ``[C]``, NaN where they are
    undefined. ``positive`` is bool ``[N, C]``."""
    columns = list(zip(positive.T, probabilities.T, strict=True))
    return {
        "roc_auc": np.array([roc_area(p, s)[0] if 0 < p.sum() < len(p) else np.nan for p, s in columns]),
        "average_precision": np.array([average_precision(p, s)[0] if p.any() else np.nan for p, s in columns]),
    }


def areas(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, Linear]:
    """The figures that the order of the images decides, class by class; one of two classes against the other is the
    same ROC curve twice.

    Args:
        targets: int ``[N]`` or, where an image may have several labels, bool ``[N, C]``.
    """
    positive = positives(targets, probabilities.shape[1])
    first = int(targets.ndim == 1 and probabilities.shape[1] == 2)
    return {
        "roc_auc_macro": over_classes(roc_area, positive[:, first:], probabilities[:, first:], both=True),
        "average_precision_macro": over_classes(average_precision, positive, probabilities, both=False),
    }


def top_hits(labels: np.ndarray, probabilities: np.ndarray, count: int = TOP) -> np.ndarray:
    """Whether an image's class is among the ``count`` most probable ones, bool ``[N]``; of equals, the first is."""
    given = probabilities[np.arange(len(labels)), labels][:, None]
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    return np.asarray(((probabilities > given) | (before & (probabilities == given))).sum(1) < count)


def at_once(figures: Figures, images: int) -> dict[str, float]:
    """The figures of all images, each once."""
    return {name: float(value[0]) for name, value in figures(np.ones((1, images))).items()}


def measured(name: str, value: float, drawn: np.ndarray, sample: Sample) -> Interval:
    """A figure with the interval of its kind. A Brier score of up to 2 is halved meanwhile."""
    if name == "brier":
        value, low, high = (2 * bound for bound in sample.interval(value / 2, drawn / 2))
        return value, low, high
    return sample.interval(value, drawn, bounded=name != "log_loss")


def calibration(targets: np.ndarray, probabilities: np.ndarray, sample: Sample, seed: int) -> dict[str, Interval]:
    """The expected and the adaptive calibration error."""
    kinds = (("ece", False), ("ace", True))
    return {name: calibration_interval(gaps(targets, probabilities, kind), sample, seed) for name, kind in kinds}


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
    shares = {"accuracy": right}
    if classes > TOP:
        shares["top5_accuracy"] = top_hits(labels, probabilities).astype(np.float64)
    sides = [
        csr_array((counted, (np.arange(images), column)), shape=(images, classes))
        for column, counted in ((labels, right), (predicted, every), (labels, every))
    ]

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        precision, recall, f1 = (mean_defined(each) for each in from_counts(*(weights @ side for side in sides)))
        macro = {"precision_macro": precision, "recall_macro": recall, "f1_macro": f1, "balanced_accuracy": recall}
        return {name: weights @ each / weights.sum(1) for name, each in shares.items()} | macro

    return figures


def ranked(labels: np.ndarray, probabilities: np.ndarray) -> Figures:
    """The figures that each image's own probabilities decide."""
    images, classes = probabilities.shape
    losses = -np.log(probabilities[np.arange(images), labels].clip(np.finfo(np.float64).eps))
    squares = ((probabilities - positives(labels, classes)) ** 2).sum(1)
    risk = area(*confidences(labels, probabilities))

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        drawn = weights.sum(1)  # groups differ in size
        return {"log_loss": weights @ losses / drawn, "brier": weights @ squares / drawn, "aurc": risk(weights)}

    return figures


def calibrated(targets: np.ndarray, probabilities: np.ndarray) -> Figures:
    """The calibration errors, for comparing two models: chance makes both too large."""
    parts = {"ece": gaps(targets, probabilities), "ace": gaps(targets, probabilities, adaptive=True)}
    return lambda weights: {name: np.abs(weights @ part).sum(1) / weights.sum(1) for name, part in parts.items()}


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where all of it is."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    return np.where(count > 0, np.where(known, values, 0).sum(-1) / np.maximum(count, 1), np.nan)
