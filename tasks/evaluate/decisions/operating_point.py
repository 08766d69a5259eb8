"""The threshold of a task with two classes, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import precision_recall_curve

from tasks.evaluate.config import OperatingPointConfig
from tasks.evaluate.scores.intervals import Interval, share_among


def positive_class(config: OperatingPointConfig, classes: Sequence[str]) -> int:
    """Number of the positive class."""
    return 1 if config.positive is None else list(classes).index(config.positive)


def choose_threshold(config: OperatingPointConfig, positive: np.ndarray, scored: np.ndarray) -> float | None:
    """The threshold by which the aim is reached at the least expense: the highest one of enough recall, or the lowest
    one of enough precision. None where none reaches it.

    Args:
        positive: bool ``[N]``; scored: probabilities of the positive class ``[N]``.
    """
    if not positive.any():
        return None
    precision, recall, thresholds = precision_recall_curve(positive, scored)
    if config.recall is not None:
        return float(thresholds[recall[:-1] >= config.recall - 1e-12].max())
    enough = thresholds[precision[:-1] >= (config.precision or 0) - 1e-12]
    return float(enough.min()) if len(enough) else None


def at_threshold(
    positive: np.ndarray, scored: np.ndarray, threshold: float, groups: np.ndarray | None = None
) -> dict[str, Interval]:
    """Precision, recall and specificity of taking for positive what is scored so much or more; NaN where undefined."""
    given = scored >= threshold
    return {
        "operating_precision": share_among(positive, given, groups),
        "operating_recall": share_among(given, positive, groups),
        "operating_specificity": share_among(~given, ~positive, groups),
    }
