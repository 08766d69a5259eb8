"""Datasets made ready for the train stage: ingested, preprocessed, and seen by the built-in backbone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.fingerprint import fingerprint
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.preprocess.config import PreprocessConfig
from tasks.preprocess.door import preview_recipe
from tasks.records import Candidate, Dataset, FeatureSet, Preprocessed
from tasks.teachers import Teachers
from tasks.train.door import train_head
from tasks.train.method import Method
from tasks.train.task import Task
from tasks.workspace import Workspace

SHORT: dict[str, Any] = {
    "epochs": 2, "blocks": 2, "augment": "none", "precision": "fp32", "batch_size": 32, "learning_rate": 1e-4,
}  # fmt: skip
"""Keys of a training through the backbone that is soon over."""


@dataclass(frozen=True)
class Prepared:
    """What the stages before training hand on."""

    dataset: Dataset
    preprocessed: Preprocessed
    features: FeatureSet

    def task(self, folder: Path, seed: int = 0) -> Task:
        return Task(self.dataset, self.preprocessed, self.features, Path("builtin"), folder, seed)

    def train(self, method: Method, folder: Path, teachers: Teachers | None = None) -> Candidate:
        return train_head(method, self.dataset, self.preprocessed, self.features, Workspace(folder), teachers)

    def with_rows(self, rows: pd.DataFrame, folder: Path, **changes: Any) -> Prepared:
        """The same images with another manifest: fewer rows, or other splits."""
        name = fingerprint(rows["path"].tolist(), rows["split"].tolist())
        manifest = folder / f"{name}.parquet"
        rows.to_parquet(manifest)
        counts = rows["split"].value_counts().to_dict()
        changed = {"manifest": manifest, "fingerprint": name, "counts": counts, **changes}
        return replace(self, dataset=self.dataset.model_copy(update=changed))


def prepare(source: dict[str, Any], workspace: Workspace, **ingest: Any) -> Prepared:
    """Take a source through the stages before training."""
    dataset = ingest_images(IngestConfig.model_validate({"source": source, **ingest}), workspace)
    preprocessed = preview_recipe(PreprocessConfig(), dataset, workspace)
    extract = ExtractConfig(precision="fp32", device="cpu", compile="never")
    return Prepared(dataset, preprocessed, extract_features(extract, dataset, preprocessed, workspace))
