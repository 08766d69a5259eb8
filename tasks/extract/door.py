"""The door of the extract stage."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.door import stage
from tasks.extract import backbones
from tasks.extract.backbones import Backbone, load_backbone
from tasks.extract.config import ExtractConfig
from tasks.extract.engine import choose_device, choose_precision, forward_all
from tasks.extract.look_alikes import confirm
from tasks.extract.store import FeatureStore
from tasks.extract.weights import read_weights
from tasks.fingerprint import file_digest, fingerprint
from tasks.ingest import decode
from tasks.preprocess import recipe as geometry
from tasks.preprocess.recipe import Recipe
from tasks.progress import progress
from tasks.records import Dataset, FeatureSet, Preprocessed
from tasks.workspace import Workspace, fresh_folder

COMMIT_EVERY = 4096
"""Images between two writes: what a killed run loses at most."""


@stage(state=lambda config, dataset, preprocessed: _weights_file_state(config))
def extract(config: ExtractConfig, dataset: Dataset, preprocessed: Preprocessed) -> FeatureSet:
    """Run the frozen backbone over every image that it has not seen yet."""
    return extract_features(config, dataset, preprocessed, Workspace.find())


def extract_features(
    config: ExtractConfig, dataset: Dataset, preprocessed: Preprocessed, workspace: Workspace
) -> FeatureSet:
    """Bring the feature store up to date with a dataset.

    Raises:
        WeightsError: the weights are missing, unreachable or of another architecture.
        ConfigurationError: there is no such backbone, layer or device.
    """
    started = time.monotonic()
    weights = read_weights(config.backbone, config.weights, workspace.resolve(config.weights))
    backbone, outline = load_backbone(config.backbone, weights, config.layer, config.pool)
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    recipe = Recipe(preprocessed.size, preprocessed.fit, preprocessed.views)
    space = {
        "backbone": outline.name, "weights": weights.digest, "layer": outline.layer, "pool": outline.pool,
        "mean": weights.mean, "std": weights.std, "size": recipe.size, "fit": recipe.fit, "views": recipe.views,
        "precision": str(precision), "code": _code(),
    }  # fmt: skip
    store = FeatureStore.open(workspace.cache / "features" / fingerprint(space), space)

    manifest = dataset.read_manifest()
    wanted = manifest.loc[manifest["split"] != "pool", "hash"].drop_duplicates()
    missing = wanted[~wanted.isin(store.known())].tolist()
    _fill(store, missing, dataset, backbone, recipe, device, precision, config.batch_size)
    seconds = time.monotonic() - started
    name = fingerprint(space, dataset.fingerprint, dataset.report.name)
    return FeatureSet(
        fingerprint=fingerprint(space, dataset.fingerprint),
        store=store.folder,
        backbone=outline.name,
        weights=config.weights,
        digest=weights.digest,
        layer=outline.layer,
        pool=config.pool,
        width=store.read(wanted[:1].tolist()).shape[1],
        precision=str(precision).removeprefix("torch."),
        device=str(device),
        new=len(missing),
        reused=len(wanted) - len(missing),
        seconds=seconds,
        **_look_alikes(dataset, store, workspace.cache / "look_alikes" / name),
    )


def _fill(
    store: FeatureStore, missing: list[str], dataset: Dataset, backbone: Backbone, recipe: Recipe,
    device: torch.device, precision: torch.dtype, batch_size: int,
) -> None:  # fmt: skip
    with progress("extract", total=len(missing), unit="img") as advance:
        for start in range(0, len(missing), COMMIT_EVERY):
            hashes = missing[start : start + COMMIT_EVERY]
            images = [dataset.image(hash) for hash in hashes]
            computed: list[np.ndarray] = []
            for features in forward_all(
                backbone, images, recipe, device=device, precision=precision, batch_size=batch_size
            ):
                computed.append(features.numpy())
                advance(len(features))
            store.append(hashes, np.concatenate(computed))


def _look_alikes(dataset: Dataset, store: FeatureStore, final: Path) -> dict[str, Any]:
    """What the features say about the pairs that look alike, where there are any."""
    with (dataset.report / "near_duplicates.csv").open() as pairs:
        if sum(1 for _ in islice(pairs, 2)) < 2:
            return {}
    with fresh_folder(final) as folder:
        confirmed, straddling = confirm(dataset, store, folder)
    return {"look_alikes": final, "confirmed": confirmed, "straddling": straddling}


def _code() -> str:
    """What turns a file into features: a change there makes another feature space."""
    modules = (decode, geometry, backbones)
    return fingerprint([file_digest(Path(str(module.__file__))) for module in modules])


def _weights_file_state(config: ExtractConfig) -> list[float]:
    """A file named in the configuration may be replaced by another of the same name."""
    path = Workspace.find().resolve(config.weights)
    return [path.stat().st_size, path.stat().st_mtime] if path.is_file() else []
