"""Figures of merit where an image may have several labels: each label of each image is a decision of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from tasks.evaluate.scores.intervals import SURE, Figures, Interval, Sample
from tasks.evaluate.scores.metrics import RANKED, areas, at_once, calibration, each_class, from_counts, mean_defined
from tasks.evaluate.scores.selective import area, sureness
from tasks.model.decisions import THRESHOLD


@dataclass(frozen=True)
class MultiLabelScores:
    """What `score_multi_label` measures.

    Attributes:
        metrics: average_precision_macro; f1_macro, f1_micro, precision_macro, recall_macro and exact_match with
            labels given from `THRESHOLD` on; roc_auc_macro; log_loss and brier, means over all decisions; ece and ace
            (see `tasks.evaluate.scores.calibration.gaps`); aurc of exact matches (see `selective.area`).
        per_class: one row per class: label, images (that have it), precision, recall, f1, roc_auc,
            average_precision. What is undefined (the recall of a class without images) is NaN.
        sure: average_precision_macro with its 99% interval.
    """

    metrics: dict[str, Interval]
    sure: Interval
    per_class: pd.DataFrame = field(repr=False)


def score_multi_label(
    targets: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], *, groups: np.ndarray | None = None,
    resamples: int = 1000, seed: int = 0,
) -> MultiLabelScores:  # fmt: skip
    """Measure predictions.

    Macro figures are means over the classes that occur, log_loss is the mean binary cross-entropy of all decisions,
    and brier their mean squared error. exact_match is the share of images all of whose labels are right and none too
    many. Intervals are those of `tasks.evaluate.scores.metrics.score`.

    Args:
        targets: ones and zeros ``[N, C]``.
        probabilities: float ``[N, C]``, each 0..1; rows need not sum to 1.
        groups: of each image int ``[N]`` from 0, where images come in groups.
    """
    true, probabilities = targets.astype(bool), probabilities.astype(np.float64)
    given = probabilities >= THRESHOLD
    counts = [each.sum(0) for each in (true & given, given, true)]
    sample = Sample(len(true), groups, seed)
    values = at_once(decided(true, probabilities), len(true)) | at_once(ranked(true, probabilities), len(true))
    drawn = sample.resample(decided(true, probabilities), resamples)
    drawn |= sample.resample(ranked(true, probabilities), min(resamples, RANKED))
    metrics = {name: sample.interval(value, drawn[name], bounded=name != "log_loss") for name, value in values.items()}
    figures = areas(true, probabilities)
    metrics |= {name: sample.linear(figure) for name, figure in figures.items()}
    metrics |= calibration(true, probabilities, sample, seed)
    metrics["exact_match"] = sample.share((given == true).all(1))
    table = dict(zip(("precision", "recall", "f1"), from_counts(*counts), strict=True))
    per_class = pd.DataFrame({
        "label": list(classes), "images": counts[2], **table, **each_class(true, probabilities)
    })  # fmt: skip
    return MultiLabelScores(metrics, sample.linear(figures["average_precision_macro"], SURE), per_class)


def decided(true: np.ndarray, probabilities: np.ndarray) -> Figures:
    """The figures that sums over images are enough for. ``true`` is bool ``[N, C]``."""
    given = probabilities >= THRESHOLD
    sides = [each.astype(np.float64) for each in (true & given, given, true)]
    losses = -np.log(np.where(true, probabilities, 1 - probabilities).clip(np.finfo(np.float64).eps)).mean(1)
    means = {"log_loss": losses, "brier": ((probabilities - true) ** 2).mean(1)}

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        drawn = weights.sum(1)
        averages = {name: weights @ each / drawn for name, each in means.items()}
        return _over_classes(*(weights @ side for side in sides)) | averages

    return figures


def _over_classes(hits: np.ndarray, given: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
    """Averages ``[...]`` over the classes of counts ``[..., C]``; see `from_counts`."""
    precision, recall, f1 = (mean_defined(each) for each in from_counts(hits, given, true))
    micro = 2 * hits.sum(-1) / np.maximum((given + true).sum(-1), 1)
    return {"f1_macro": f1, "f1_micro": micro, "precision_macro": precision, "recall_macro": recall}


def ranked(true: np.ndarray, probabilities: np.ndarray) -> Figures:
    """The figures that the order of the images by confidence decides. ``true`` is bool ``[N, C]``."""
    right = ((probabilities >= THRESHOLD) == true).all(1)
    risk = area(sureness(true, probabilities), right)
    return lambda weights: {"aurc": risk(weights)}
