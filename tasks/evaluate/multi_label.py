"""Figures of merit where an image may have several labels: each label of each image is a decision of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, log_loss

from tasks.evaluate.intervals import SURE, Figures, Interval, Sample
from tasks.evaluate.metrics import RANKED, from_counts, mean_defined, roc_auc, weighted_areas
from tasks.model.decisions import THRESHOLD


@dataclass(frozen=True)
class MultiLabelScores:
    """What `score_multi_label` measures.

    Attributes:
        metrics: average_precision_macro; f1_macro, f1_micro, precision_macro, recall_macro and exact_match with
            labels given from `THRESHOLD` on; roc_auc_macro; log_loss.
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

    Macro figures are means over the classes that occur, and log_loss is the mean binary cross-entropy of all
    decisions. exact_match, the share of images all of whose labels are right and none too many, has Wilson's
    interval; the others have bootstrap intervals, over images or groups as in `tasks.evaluate.metrics.score`.

    Args:
        targets: ones and zeros ``[N, C]``.
        probabilities: float ``[N, C]``, each 0..1; rows need not sum to 1.
        groups: of each image int ``[N]`` from 0, where images come in groups.
    """
    true, probabilities = targets.astype(bool), probabilities.astype(np.float64)
    given = probabilities >= THRESHOLD
    counts = [each.sum(0) for each in (true & given, given, true)]
    areas, precise = roc_auc(true, probabilities), average_precision(true, probabilities)
    values = {
        "average_precision_macro": mean_defined(precise),
        **_over_classes(*counts),
        "roc_auc_macro": mean_defined(areas),
        "log_loss": log_loss(true.ravel(), probabilities.ravel(), labels=[False, True]),
    }
    sample = Sample(len(true), groups, seed)
    drawn = sample.resample(decided(true, probabilities), resamples)
    drawn |= sample.resample(ranked(true, probabilities), min(resamples, RANKED))
    metrics = {
        name: sample.interval(float(value), drawn[name], bounded=name != "log_loss") for name, value in values.items()
    }
    metrics["exact_match"] = sample.share((given == true).all(1))
    table = dict(zip(("precision", "recall", "f1"), from_counts(*counts), strict=True))
    per_class = pd.DataFrame(
        {"label": list(classes), "images": counts[2], **table, "roc_auc": areas, "average_precision": precise}
    )
    name = "average_precision_macro"
    return MultiLabelScores(metrics, sample.interval(float(values[name]), drawn[name], SURE), per_class)


def average_precision(true: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Average precision of each class, float ``[C]``; NaN where no image has it. ``true`` is bool ``[N, C]``."""
    return np.array(
        [average_precision_score(t, p) if t.any() else np.nan for t, p in zip(true.T, probabilities.T, strict=True)]
    )


def decided(true: np.ndarray, probabilities: np.ndarray) -> Figures:
    """The figures that sums over images are enough for. ``true`` is bool ``[N, C]``."""
    given = probabilities >= THRESHOLD
    sides = [each.astype(np.float64) for each in (true & given, given, true)]
    losses = -np.log(np.where(true, probabilities, 1 - probabilities).clip(np.finfo(np.float64).eps)).mean(1)

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        return _over_classes(*(weights @ side for side in sides)) | {"log_loss": weights @ losses / weights.sum(1)}

    return figures


def _over_classes(hits: np.ndarray, given: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
    """Averages ``[...]`` over the classes of counts ``[..., C]``; see `from_counts`."""
    precision, recall, f1 = (mean_defined(each) for each in from_counts(hits, given, true))
    micro = 2 * hits.sum(-1) / np.maximum((given + true).sum(-1), 1)
    return {"f1_macro": f1, "f1_micro": micro, "precision_macro": precision, "recall_macro": recall}


def ranked(true: np.ndarray, probabilities: np.ndarray) -> Figures:
    """The figures that the order of the images by score decides. ``true`` is bool ``[N, C]``."""

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        each = [weighted_areas(t, p, weights) for t, p in zip(true.T, probabilities.T, strict=True)]
        areas, precise = (mean_defined(np.stack(values, axis=-1)) for values in zip(*each, strict=True))
        return {"roc_auc_macro": areas, "average_precision_macro": precise}

    return figures
