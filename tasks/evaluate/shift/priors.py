"""How frequent the classes are among images without labels, by the model's answers and what it is known to confuse.

Black-box shift estimation (Lipton, Wang & Smola 2018, "Detecting and correcting for label shift with black box
predictors"): if classes look as they did and only their shares have changed, the shares of the answers are those of the
classes, mixed by the confusion matrix. It is undone by least squares among shares that are positive and add up to 1,
which holds where a matrix of many classes and few images cannot be inverted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import nnls

RESAMPLES, RESAMPLES_OF_MANY = 200, 50
"""Of the bootstrap; with more than `MANY` classes, each takes long."""
MANY = 50

KEPT = 1.0
"""Right answers that each class is credited with beside those that were counted, so that one that was never seen is
taken to be known."""


def estimate_priors(confusion: np.ndarray, answers: np.ndarray, classes: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """The shares of the classes.

    Args:
        confusion: see `tasks.model.reference.Reference`.
        answers: how many of the images were given each class, ``[C]``; where an image may have several labels, the
            counts of those without and with each, ``[C, 2]``.

    Returns:
        A row a class: class, before (its share among the reference's images), now, low and high (of a 95% bootstrap
        interval, over the reference's images and these).
    """
    random = np.random.default_rng(seed)
    resamples = RESAMPLES if len(classes) <= MANY else RESAMPLES_OF_MANY
    if confusion.ndim == 3:
        found = [
            _shares(table, counts, random, resamples)[:, 1] for table, counts in zip(confusion, answers, strict=True)
        ]
        before, drawn = confusion[:, :, 1].sum(1) / confusion.sum((1, 2)), np.stack(found, axis=1)
    else:
        before, drawn = confusion.sum(0) / confusion.sum(), _shares(confusion, answers, random, resamples)
    low, high = np.quantile(drawn[1:], [0.025, 0.975], axis=0)
    return pd.DataFrame({"class": list(classes), "before": before, "now": drawn[0], "low": low, "high": high})


def _shares(confusion: np.ndarray, answers: np.ndarray, random: np.random.Generator, resamples: int) -> np.ndarray:
    """Shares of the classes as found, then of the resamples: ``[1 + resamples, C]``."""
    found = [_solved(confusion, answers)]
    flat, count, total = confusion.ravel(), int(confusion.sum()), int(answers.sum())
    for _ in range(resamples):
        table = random.multinomial(count, flat / flat.sum()).reshape(confusion.shape).astype(np.float64)
        found.append(_solved(table, random.multinomial(total, answers / total)))
    return np.stack(found)


def _solved(confusion: np.ndarray, answers: np.ndarray) -> np.ndarray:
    mixing = confusion + KEPT * np.eye(len(confusion))
    mixing /= mixing.sum(0)
    weight = 1e3  # of the equation that shares add up to 1
    system = np.vstack([mixing, np.full(len(mixing), weight)])
    shares, _ = nnls(system, np.append(answers / answers.sum(), weight))
    return shares / shares.sum()
