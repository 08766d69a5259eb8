"""What a report is made from: the records of a run, and the tables that they name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.choice import Choice
from tasks.model.latency import Latency
from tasks.records import (
    Candidate,
    Comparison,
    Dataset,
    Evaluation,
    FeatureSet,
    Inspection,
    Preprocessed,
    RegisteredModel,
)
from tasks.report.pictures import SIDE, thumbnail

JUDGED = {"class": "accuracy", "labels": "average_precision_macro", "number": "mae"}
"""Figures that models are judged by, by the kind of the task."""

LESS = ("log_loss", "brier", "cost", "ece", "ace", "aurc", "mae", "rmse", "bias", "nll", "calibration_error")
"""Beginnings of the names of figures of which less is better; they have no common scale."""

LABELS = (
    "label", "predicted", "true", "suggested", "before", "after", "explained", "neighbour_1_label", "neighbour_2_label",
    "neighbour_3_label",
)  # fmt: skip
"""Columns of labels."""
TEXTS = (*LABELS, "path", "hash", "slice", "class", "example", "wrong")
"""Columns that are no numbers, whatever they look like."""
NONE = "none"


@dataclass(frozen=True)
class Facts:
    """A run that is over.

    Attributes:
        config: the whole configuration, as YAML reads it.
        commit: of the repository that the workspace lies in, where it is one.
        verdict: what the gate decided when the version was made.
        latency: of the packaged model on this machine.
        choice: how backbone and method were chosen, where they were.
    """

    config: dict[str, Any]
    dataset: Dataset
    preprocessed: Preprocessed
    features: FeatureSet
    candidate: Candidate
    evaluation: Evaluation
    comparison: Comparison | None
    inspection: Inspection | None
    model: RegisteredModel
    verdict: str
    latency: Latency
    commit: str | None = None
    choice: Choice | None = None

    @property
    def judged_by(self) -> str:
        """Name of the figure that a model is judged by."""
        return JUDGED[self.dataset.target.kind]

    def picture(self, content: str, side: int = SIDE) -> str:
        """An image of the dataset as a part of the page."""
        return thumbnail(self.dataset.image(content), self.dataset.limits, side)

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that figures are of, the held-out one first."""
        told = dict.fromkeys(name.partition("/")[0] for name in self.evaluation.metrics)
        return tuple(sorted(told, key=lambda split: split != self.dataset.report_on))


def table(folder: Path | None, name: str, *, several: bool = False) -> pd.DataFrame | None:
    """A table in a record's folder, CSV or Parquet; None where there is none or it has no row.

    Args:
        several: whether labels in a CSV are JSON lists, as `tasks.ingest.relabel.label_text` has several of an image; a
            class may be called ``[1]``.
    """
    if folder is None or not (path := folder / name).is_file():
        return None
    if path.suffix == ".parquet":
        read = pd.read_parquet(path)
    else:  # a class may be called NA, and 007 is no number
        kinds, end = dict.fromkeys(TEXTS, "string"), _line_end(path)
        read = pd.read_csv(path, lineterminator=end, keep_default_na=False, na_values=[""], dtype=kinds)
    return None if read.empty else in_words(read, several=several)


def _line_end(path: Path) -> str | None:
    """How lines of a table end, where a carriage return is a part of names; None where it is a part of line ends."""
    with path.open("rb") as file:
        return None if file.readline().endswith(b"\r\n") else "\n"


def in_words(read: pd.DataFrame, *, several: bool = False) -> pd.DataFrame:
    """A table with its labels as a person reads them; ``several`` as in `table`."""
    spelt = _from_json if several else _named
    return read.assign(**{name: read[name].map(spelt) for name in LABELS if name in read})


def rows(read: pd.DataFrame | None, most: int | None = None) -> list[dict[str, Any]]:
    """The rows of a table by their columns' names, the first ``most`` of them; of none, no rows."""
    return [] if read is None else [dict(row) for _, row in read.head(most or len(read)).iterrows()]


def _from_json(label: Any) -> Any:
    """Several labels, kept as a JSON list, in words."""
    return _named(json.loads(label) if isinstance(label, str) and label.startswith("[") else label)


def _named(label: Any) -> Any:
    """Several labels, and none, in words."""
    if isinstance(label, (list, np.ndarray)):
        return ", ".join(label) or NONE
    return NONE if pd.isna(label) or label == "" else label
