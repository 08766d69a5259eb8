"""What a linear head says of every labelled image when it has not learned from it."""

from __future__ import annotations

import numpy as np
import torch

from tasks.errors import ConfigurationError
from tasks.train.folds import Parts, parts_of
from tasks.train.logistic import ROUGH, Regression
from tasks.train.targets import indicators, is_multi_label, kind_of, loss_of

FOLDS = 5
STRENGTHS = (0.1, 0.03, 0.01, 3e-3, 1e-3)
"""Of the regularisation; the one of the smallest loss on the first fold is taken, which also calibrates."""

CHOOSING = 5_000
"""Most images that a strength is tried on."""

LEAST, LOGITS = 10_000, 10_000_000
"""A head learns from no more images than give so many logits, but from `LEAST` at least: a minute, whatever the set."""

KNOWN = 5
"""Of a class with fewer images to learn from, nothing is known."""


def held_out_probabilities(
    features: torch.Tensor, targets: torch.Tensor, classes: int, groups: np.ndarray | None = None, seed: int = 0
) -> np.ndarray | None:
    """Probabilities float32 ``[N, C]`` by cross-validation, in which images of a group are left out together.

    NaN where a head has seen fewer than `KNOWN` images of the class; None where nothing can be left out, since every
    class has a single image, or group.

    Args:
        features: float32 ``[N, d]``, standardised.
        targets: int64 ``[N]`` or, where an image may have several labels, zeros and ones float32 ``[N, C]``.
    """
    try:
        parts = parts_of(targets, classes, FOLDS, 1, seed, groups)
    except ConfigurationError:
        return None
    random = np.random.default_rng(seed)
    strength = _strength(features, targets, classes, parts, random)
    there = indicators(targets, classes)
    found = torch.full((len(targets), classes), torch.nan)
    for kept, left in parts:
        some = random.permutation(kept)[: max(LEAST, LOGITS // classes)]
        logits = _logits(features, targets, some, left, classes, (strength,))[0]
        probabilities = logits.sigmoid() if is_multi_label(targets) else logits.softmax(1)
        found[left] = torch.where(there[some].sum(0) >= KNOWN, probabilities, torch.nan)
    return found.numpy()


def _strength(
    features: torch.Tensor, targets: torch.Tensor, classes: int, parts: Parts, random: np.random.Generator
) -> float:
    kept, left = parts[0]
    tried = _logits(features, targets, random.permutation(kept)[:CHOOSING], left, classes, STRENGTHS)
    loss = loss_of(kind_of(targets))
    return STRENGTHS[int(np.argmin([float(loss(logits, targets[left])) for logits in tried]))]


def _logits(
    features: torch.Tensor, targets: torch.Tensor, kept: np.ndarray, left: np.ndarray, classes: int,
    strengths: tuple[float, ...],
) -> torch.Tensor:  # fmt: skip
    """Of the images ``left``, by heads that are fitted to those ``kept``: ``[strengths, n, C]``."""
    solved = Regression(features[kept], targets[kept], classes).solve(strengths, stop=ROUGH)
    return features[left] @ solved.weights.mT + solved.biases[:, None]
