"""The door of the train stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tasks.door import stage
from tasks.errors import ConfigurationError
from tasks.extract.store import FeatureStore, keys_of
from tasks.fingerprint import code_version, fingerprint
from tasks.records import Candidate, Dataset, FeatureSet, content_fingerprint
from tasks.train.config import TrainConfig
from tasks.train.solvers import Fit, Labelled, fit_linear, fit_linear_cross_validated, fit_mlp
from tasks.workspace import Workspace, fresh_folder

CROSS_VALIDATED = 5_000
"""Up to this many training images, five fits cost less than the images that one validation part would take."""


@stage()
def train(config: TrainConfig, dataset: Dataset, features: FeatureSet) -> Candidate:
    """Fit the head to the training images; choose on validation; leave the held-out split alone."""
    return train_head(config, dataset, features, Workspace.find())


def train_head(config: TrainConfig, dataset: Dataset, features: FeatureSet, workspace: Workspace) -> Candidate:
    """Fit a head on cached features.

    Where ``choose_on`` is only a part of a small training split (`tune`), a linear head's regularisation is
    chosen by cross-validation instead, and the head is fitted to all of train: the held-out images are others.

    Raises:
        ConfigurationError: images have several labels.
    """
    if dataset.multi_label:
        raise ConfigurationError(
            f"the images of {dataset.source} have several labels each, and train.method {config.method} gives one: "
            "name one label column in ingest.source.label"
        )
    manifest = dataset.read_manifest()
    everything = manifest[manifest["split"].isin(["train", "tune"])]
    count = len(dataset.classes)
    small = dataset.choose_on == "tune" and len(everything) <= CROSS_VALIDATED and not features.variants
    if config.method == "linear" and small:
        fit = fit_linear_cross_validated(labelled(dataset, features, everything), count)
        return _keep(fit, config, dataset, features, workspace)
    fitting = labelled(dataset, features, manifest[manifest["split"] == "train"], augmented=True)
    choosing = labelled(dataset, features, manifest[manifest["split"] == dataset.choose_on])
    if config.method == "linear":
        fit = fit_linear(fitting, choosing, count)
    else:
        fit = fit_mlp(fitting, choosing, count, **config.model_dump(exclude={"method"}))
    return _keep(fit, config, dataset, features, workspace)


def labelled(dataset: Dataset, features: FeatureSet, rows: pd.DataFrame, augmented: bool = False) -> Labelled:
    """Features float32 ``[N, width]`` and labels int64 ``[N]`` of some rows of the manifest.

    Args:
        augmented: whether features of the augmented views follow those of the images.
    """
    stores = [FeatureStore(folder) for folder in (features.store, *(features.variants if augmented else ()))]
    keys, count = keys_of(rows["hash"]), len(rows)
    matrix = np.empty((len(stores) * count, features.width), np.float32)
    for number, store in enumerate(stores):
        store.read(keys, out=matrix[number * count : (number + 1) * count])
    codes = pd.Categorical(rows["label"], categories=list(dataset.classes)).codes
    return torch.from_numpy(matrix), torch.tensor(codes, dtype=torch.int64).repeat(len(stores))


def _keep(fit: Fit, config: TrainConfig, dataset: Dataset, features: FeatureSet, workspace: Workspace) -> Candidate:
    code = code_version(Path(__file__).parent)
    name = fingerprint(code, config.model_dump(), dataset.fingerprint, features.fingerprint)
    final = workspace.cache / "candidates" / name
    curves = fit.curves.rename(columns=lambda column: column.replace("validation/", f"{dataset.choose_on}/"))
    with fresh_folder(final) as folder:
        fit.head.save(folder / "head.safetensors")
        curves.to_parquet(folder / "curves.parquet", index=False)
    return Candidate(
        fingerprint=fingerprint(dataset.version, features.fingerprint, content_fingerprint(final / "head.safetensors")),
        method=config.method,
        head=final / "head.safetensors",
        curves=final / "curves.parquet",
        chosen=fit.chosen,
        score=fit.score,
    )
