"""Figures of merit where an image may have several labels: each label of each image is a decision of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, log_loss

from tasks.evaluate.decisions import THRESHOLD
from tasks.evaluate.metrics import (
    Interval,
    from_counts,
    mean_defined,
    percentiles,
    roc_auc,
    weighted_areas,
    wilson,
)

RANKED = 200
"""Most resamples of the figures that need all images in the order of their scores, class by class."""

TOGETHER = 1 << 22
"""Weights of images that are held at a time: 32 MiB."""


@dataclass(frozen=True)
class MultiLabelScores:
    """What `score_multi_label` measures.

    Attributes:
        metrics: average_precision_macro; f1_macro, f1_micro, precision_macro, recall_macro and exact_match with
            labels given from `THRESHOLD` on; roc_auc_macro; log_loss.
        per_class: one row per class: label, images (that have it), precision, recall, f1, roc_auc,
            average_precision. What is undefined (the recall of a class without images) is NaN.
    """

    metrics: dict[str, Interval]
    per_class: pd.DataFrame = field(repr=False)


def score_multi_label(
    targets: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], *, resamples: int = 1000, seed: int = 0
) -> MultiLabelScores:
    """Measure predictions.

    Macro figures are means over the classes that occur, and log_loss is the mean binary cross-entropy of all
    decisions. exact_match, the share of images all of whose labels are right and none too many, has Wilson's
    interval; the others have percentile bootstrap intervals over images.

    Args:
        targets: ones and zeros ``[N, C]``.
        probabilities: float ``[N, C]``, each 0..1; rows need not sum to 1.
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
    random = np.random.default_rng(seed)
    drawn = _resample(_decided(true, given, probabilities), len(true), resamples, random)
    drawn |= _resample(_ranked(true, probabilities), len(true), min(resamples, RANKED), random)
    metrics = {name: percentiles(float(value), drawn[name]) for name, value in values.items()}
    metrics["exact_match"] = wilson(int((given == true).all(1).sum()), len(true))
    table = dict(zip(("precision", "recall", "f1"), from_counts(*counts), strict=True))
    per_class = pd.DataFrame(
        {"label": list(classes), "images": counts[2], **table, "roc_auc": areas, "average_precision": precise}
    )
    return MultiLabelScores(metrics, per_class)


def average_precision(true: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Average precision of each class, float ``[C]``; NaN where no image has it. ``true`` is bool ``[N, C]``."""
    return np.array(
        [average_precision_score(t, p) if t.any() else np.nan for t, p in zip(true.T, probabilities.T, strict=True)]
    )


Figures = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Takes weights of images float64 ``[R, N]`` and gives each figure under each row, ``[R]``."""


def _resample(figures: Figures, images: int, resamples: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Figures of bootstrap resamples: how often each image was drawn is its weight."""
    rows = max(1, TOGETHER // images)
    parts = []
    for start in range(0, resamples, rows):
        counts = random.multinomial(images, np.full(images, 1 / images), size=min(rows, resamples - start))
        parts.append(figures(counts.astype(np.float64)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _decided(true: np.ndarray, given: np.ndarray, probabilities: np.ndarray) -> Figures:
    """The figures that sums over images are enough for."""
    sides = [each.astype(np.float64) for each in (true & given, given, true)]
    losses = -np.log(np.where(true, probabilities, 1 - probabilities).clip(np.finfo(np.float64).eps)).mean(1)

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        return _over_classes(*(weights @ side for side in sides)) | {"log_loss": weights @ losses / len(true)}

    return figures


def _over_classes(hits: np.ndarray, given: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
    """Averages ``[...]`` over the classes of counts ``[..., C]``; see `from_counts`."""
    precision, recall, f1 = (mean_defined(each) for each in from_counts(hits, given, true))
    micro = 2 * hits.sum(-1) / np.maximum((given + true).sum(-1), 1)
    return {"f1_macro": f1, "f1_micro": micro, "precision_macro": precision, "recall_macro": recall}


def _ranked(true: np.ndarray, probabilities: np.ndarray) -> Figures:
    """The figures that the order of the images by score decides."""

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        each = [weighted_areas(t, p, weights) for t, p in zip(true.T, probabilities.T, strict=True)]
        areas, precise = (mean_defined(np.stack(values, axis=-1)) for values in zip(*each, strict=True))
        return {"roc_auc_macro": areas, "average_precision_macro": precise}

    return figures
