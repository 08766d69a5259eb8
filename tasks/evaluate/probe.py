"""Linear probes: how much a frozen backbone knows about images that it was not trained for."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from tasks.extract.backbones import Backbone
from tasks.extract.engine import forward_all
from tasks.extract.precision import choose_device, choose_precision
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.preprocess.recipe import Recipe
from tasks.progress import progress
from tasks.train.heads import predict_probabilities
from tasks.train.solvers import Labelled, fit_linear
from tasks.workspace import Workspace


def linear_probes(
    backbones: dict[str, Backbone], source: IngestConfig, recipe: Recipe, workspace: Workspace
) -> dict[str, tuple[int, int]]:
    """Fit a linear head on each backbone's features of a dataset, its strength chosen on validation.

    Returns:
        Per backbone, the number of held-out images classified right, and of all of them.
    """
    dataset = ingest_images(source, workspace, into_data=False)
    manifest = dataset.read_manifest()
    paths = [dataset.image(hash) for hash in manifest["hash"]]
    labels = torch.tensor(pd.Categorical(manifest["label"], categories=list(dataset.classes)).codes, dtype=torch.int64)
    results = {}
    for name, backbone in backbones.items():
        features = _features(backbone, paths, recipe, f"probe {name}")
        train, choose, report = (
            _rows(features, labels, manifest["split"] == split)
            for split in ("train", dataset.choose_on, dataset.report_on)
        )
        head = fit_linear(train, choose, len(dataset.classes)).head
        right = predict_probabilities(head, report[0]).argmax(1) == report[1]
        results[name] = (int(right.sum()), len(right))
    return results


def _features(backbone: Backbone, paths: list[Path], recipe: Recipe, what: str) -> torch.Tensor:
    device = choose_device()
    precision = choose_precision("auto", device)
    parts = []
    with progress(what, total=len(paths), unit="img") as advance:
        for part in forward_all(backbone, paths, recipe, device=device, precision=precision, batch_size=256):
            parts.append(part)
            advance(len(part))
    return torch.cat(parts)


def _rows(features: torch.Tensor, labels: torch.Tensor, chosen: pd.Series) -> Labelled:
    index = torch.tensor(chosen.to_numpy())  # a copy: torch warns of arrays that it must not write to
    return features[index], labels[index]
