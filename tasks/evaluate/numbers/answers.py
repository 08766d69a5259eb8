"""What a candidate makes of a split where images have numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from tasks.evaluate.report import OfSplit
from tasks.groups import group_numbers
from tasks.model.told import REACH
from tasks.records import Candidate, Dataset, FeatureSet
from tasks.train.heads import Head, predict_numbers
from tasks.train.task import read_features


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
        half = REACH * self.spread
        return self.mean - half, self.mean + half

    @property
    def table(self) -> pd.DataFrame:
        """Predictions: columns path, label, hash, predicted, low and high."""
        low, high = self.bounds
        return self.rows[["path", "label", "hash"]].assign(predicted=self.mean, low=low, high=high)


def told_by(
    head: Head, inputs: torch.Tensor, split: str, rows: pd.DataFrame, unit: str = "", task: str = ""
) -> Numbers:
    """What a head tells of features float32 ``[N, width]`` of rows whose ``label`` is the true number."""
    mean, spread = (each.double().numpy() for each in predict_numbers(head, inputs))
    return Numbers(split, rows, rows["label"].to_numpy(np.float64), mean, spread, group_numbers(rows), unit, task)


def answer_number(split: str, dataset: Dataset, features: FeatureSet, candidate: Candidate) -> Numbers:
    """What a candidate makes of a split whose leading task is a number."""
    manifest = dataset.read_manifest()
    rows = manifest[manifest["split"] == split].reset_index(drop=True)
    head = Head.load(candidate.head)
    return told_by(head, read_features(features, rows), split, rows, dataset.target.unit)
