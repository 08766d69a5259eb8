"""What a candidate makes of a split where images have numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tasks.evaluate.report import OfSplit
from tasks.evaluate.scores.regression import PROMISED, quantile_of


@dataclass(frozen=True)
class Numbers(OfSplit):
    """A split, and the numbers that its images are given.

    Attributes:
        split: its name.
        rows: the manifest's, ``N`` of them, numbered from 0; ``label`` is the true number.
        targets: true numbers, float64 ``[N]``.
        mean, spread: what is predicted, and its standard deviation: float64 ``[N]``, in the unit of the number.
        groups: of each image int64 ``[N]``, where images come in groups (see `tasks.groups`).
        unit: as people write it.
        task: its name, unless it leads.
    """

    split: str
    rows: pd.DataFrame
    targets: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    groups: np.ndarray | None = None
    unit: str = ""
    task: str = ""

    @property
    def errors(self) -> np.ndarray:
        """How far each prediction is from the truth, float64 ``[N]``."""
        return np.abs(self.mean - self.targets)

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the interval that holds nine of ten true numbers, as it is served: float64 ``[N]`` each."""
        half = quantile_of(PROMISED) * self.spread
        return self.mean - half, self.mean + half

    @property
    def table(self) -> pd.DataFrame:
        """Predictions: columns path, label, hash, predicted, low and high."""
        low, high = self.bounds
        return self.rows[["path", "label", "hash"]].assign(predicted=self.mean, low=low, high=high)
