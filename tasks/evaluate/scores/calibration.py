"""Whether probabilities mean what they say: calibration errors, their intervals, and the table behind the diagram.

With one label an image, an image's confidence is held against whether its answer is right. Where an image may have
several, each label of each image counts: its probability against whether it is there.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit, log_softmax, logit, softmax
from scipy.stats import rankdata

from tasks.evaluate.scores.intervals import LEVEL, Interval, Sample, wilson

CALIBRATION_BINS = 15

DRAWS = 1_000
"""Of the gaps that chance alone makes."""

FACTORS = np.linspace(0, 1, 51)
"""By which the gaps that were measured are shrunk."""


def confidences(targets: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and whether what they are given for is so: float64 and bool ``[N]`` or, where an image may have
    several labels, ``[N · C]``, image after image."""
    if targets.ndim == 2:
        return probabilities.ravel().astype(np.float64), targets.ravel() > 0
    return probabilities.max(1).astype(np.float64), probabilities.argmax(1) == targets


def equal_bins(confidence: np.ndarray) -> np.ndarray:
    """Each confidence's bin of 15 equally wide ones, int64."""
    return np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def even_bins(confidence: np.ndarray) -> np.ndarray:
    """Each confidence's bin of 15 that hold equally many; equals are together, int64."""
    return ((rankdata(confidence) - 0.5) * CALIBRATION_BINS / len(confidence)).astype(np.int64)


def gaps(targets: np.ndarray, probabilities: np.ndarray, adaptive: bool = False) -> np.ndarray:
    """Of each image, in the bin of its confidence, 1 or 0 for right or wrong less the confidence: ``[N, bins]``; with
    several labels, the mean over them. The calibration error is the sum of the absolute means of the bins.

    Args:
        adaptive: whether bins are `even_bins`: the adaptive calibration error (Nixon et al. 2019, "Measuring
            calibration in deep learning", 3.2, for the given answer), else `equal_bins`: the expected one (Guo et al.
            2017, "On calibration of modern neural networks", eq. 3).
    """
    confidence, right = confidences(targets, probabilities)
    bins = even_bins(confidence) if adaptive else equal_bins(confidence)
    images, each = len(targets), len(confidence) // max(1, len(targets))
    cells = np.repeat(np.arange(images), each) * CALIBRATION_BINS + bins
    sums = np.bincount(cells, weights=right - confidence, minlength=images * CALIBRATION_BINS)
    return sums.reshape(images, CALIBRATION_BINS) / each


def calibration_error(by_image: np.ndarray) -> float:
    """The sum of the absolute means of `gaps`."""
    return float(np.abs(by_image.mean(0)).sum())


def calibration_interval(by_image: np.ndarray, sample: Sample, seed: int = 0) -> Interval:
    """A calibration error and the 95% interval of that of all images a model will meet.

    Chance alone opens gaps, so that the error of a sample is too large, and a bootstrap's larger still: its interval
    misses the truth of a well calibrated model nearly always. So the lower bound inverts a test (Carpenter 1999, "Test
    inversion bootstrap confidence intervals"): the smallest error of which a sample shows one as large as this in 2.5%
    of cases, were its gaps those measured times one factor. Of a well calibrated model it is 0. The upper bound is the
    value, less what a bootstrap shows chance to add, and what its variance adds; the value at least.
    """
    value, mean = calibration_error(by_image), by_image.mean(0)
    noise = sample.noise(by_image - mean, DRAWS, seed)
    if noise is None:
        return value, 0.0, 1.0
    most = np.quantile([np.abs(factor * mean + noise).sum(1) for factor in FACTORS], (1 + LEVEL) / 2, axis=1)
    low = value * np.interp(value, most, FACTORS)
    along = float((noise @ np.sign(mean)).std())
    bias = float(np.abs(mean + noise).sum(1).mean()) - value
    return value, float(low), min(1.0, max(value, value - bias + sample.quantile(LEVEL) * along))


def uncalibrated(probabilities: np.ndarray, temperature: float, several: bool) -> np.ndarray:
    """Probabilities ``[N, C]`` as they were before logits were divided by ``temperature``."""
    exact = probabilities.astype(np.float64)
    with np.errstate(divide="ignore"):
        if several:
            return np.asarray(expit(temperature * logit(exact)))
        return np.asarray(softmax(temperature * log_softmax(np.log(exact), axis=1), axis=1))


def reliability_table(targets: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """The diagram's bins that are not empty: low, high (edges), count, confidence, accuracy, and the bounds of its
    95% interval accuracy_low, accuracy_high (Wilson's; each image by itself)."""
    confidence, right = confidences(targets, probabilities)
    bins = equal_bins(confidence)
    count = np.bincount(bins, minlength=CALIBRATION_BINS)
    filled = np.flatnonzero(count)
    sums = [np.bincount(bins, weights=each, minlength=CALIBRATION_BINS)[filled] for each in (confidence, right)]
    bounds = [wilson(int(hits), int(of)) for hits, of in zip(sums[1], count[filled], strict=True)]
    return pd.DataFrame({
        "low": filled / CALIBRATION_BINS, "high": (filled + 1) / CALIBRATION_BINS, "count": count[filled],
        "confidence": sums[0] / count[filled], "accuracy": sums[1] / count[filled],
        "accuracy_low": [low for _, low, _ in bounds], "accuracy_high": [high for _, _, high in bounds],
    })  # fmt: skip
