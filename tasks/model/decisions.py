"""Which labels an image is given where it may have several: one rule for the report and for what is served."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

THRESHOLD = 0.5
"""Probability from which on a label is given."""


def given_labels(probabilities: np.ndarray, classes: Sequence[str]) -> list[list[str]]:
    """The classes that each image is given, in the order of ``classes``; ``probabilities`` are float ``[N, C]``."""
    return named(probabilities >= THRESHOLD, classes)


def named(chosen: np.ndarray, classes: Sequence[str]) -> list[list[str]]:
    """Rows of bool ``[N, C]`` as lists of class names."""
    return [[name for name, yes in zip(classes, row, strict=True) if yes] for row in chosen.tolist()]
