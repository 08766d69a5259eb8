"""Linear probes: how much a frozen backbone knows about images that it was not trained for."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
import torch

from tasks.extract.backbones import Backbone
from tasks.extract.engine import choose_device, choose_precision, forward_all
from tasks.ingest.config import IngestConfig
from tasks.ingest.manifest import assign_splits, check_labels, find_images, take_in
from tasks.ingest.sources import fetch
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
    workspace.cache.mkdir(exist_ok=True, parents=True)
    with tempfile.TemporaryDirectory(dir=workspace.cache, prefix="probe-") as temporary:
        scratch = Path(temporary)
        manifest, _ = take_in(find_images(fetch(source.source, workspace, scratch))[0], scratch / "images")
        manifest, choose_on, report_on = assign_splits(manifest, source.val, source.test)
        classes = check_labels(manifest)
        paths = [scratch / "images" / path for path in manifest["path"]]
        labels = torch.tensor(pd.Categorical(manifest["label"], categories=list(classes)).codes, dtype=torch.int64)
        results = {}
        for name, backbone in backbones.items():
            features = _features(backbone, paths, recipe, f"probe {name}")
            part = {
                split: _rows(features, labels, manifest["split"] == split) for split in ("train", choose_on, report_on)
            }
            head = fit_linear(part["train"], part[choose_on], len(classes)).head
            right = predict_probabilities(head, part[report_on][0]).argmax(1) == part[report_on][1]
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
    index = torch.from_numpy(chosen.to_numpy())
    return features[index], labels[index]
