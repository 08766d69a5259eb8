"""Feature spaces: what has to be equal for two images' features to be comparable, and so for one to be reused."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet
import torch

from tasks.extract import backbones, inference
from tasks.extract.backbones import Backbone, Outline, load_backbone
from tasks.extract.config import ExtractConfig
from tasks.extract.precision import CHECKED, MOST_NOISE, choose_precision, noise
from tasks.extract.store import FeatureStore, keys_of
from tasks.extract.weights import Weights, read_weights
from tasks.fingerprint import file_digest, fingerprint
from tasks.ingest import decode, depth
from tasks.preprocess import augment
from tasks.preprocess import recipe as geometry
from tasks.preprocess.recipe import Recipe
from tasks.progress import tell
from tasks.records import Dataset
from tasks.workspace import Workspace, write_whole

LEARNED = ("train", "tune", "val", "test", "partial")
"""Splits whose images are learned from or evaluated on."""


@dataclass(frozen=True)
class Space:
    """A feature space: its store, and the network whose features it holds.

    Attributes:
        about: everything that a feature depends on, as written to ``space.json``.
        precision: of the forward pass.
        widths: features of an image, of each layer.
    """

    store: FeatureStore
    about: dict[str, object]
    outline: Outline
    weights: Weights
    precision: torch.dtype
    widths: tuple[int, ...]

    def variant(self, number: int) -> Space:
        """The space of an augmented view of the same images; 0 is this one."""
        if not number:
            return self
        about = self.about | {"variant": number}
        return replace(self, about=about, store=FeatureStore.open(_folder(about, self.store.folder.parent), about))


def open_space(
    config: ExtractConfig, recipe: Recipe, dataset: Dataset, workspace: Workspace, device: torch.device
) -> Space:
    """Find or begin the feature space of a configuration.

    Raises:
        WeightsError: the weights are missing, unreachable or of another architecture.
        ConfigurationError: there is no such backbone or layer.
    """
    weights = read_weights(config.backbone, config.weights, workspace.resolve(config.weights))
    backbone, outline = load_backbone(config.backbone, weights, config.layers, config.pool, recipe.size)
    about = {
        "backbone": outline.name, "weights": weights.digest, "layer": outline.layers, "pool": outline.pool,
        "mean": weights.mean, "std": weights.std, "size": recipe.size, "fit": recipe.fit, "views": recipe.views,
        "code": _code(),
    }  # fmt: skip
    # Written down where they are not what they always were, so that spaces keep their names.
    about |= {"crop": recipe.crop} if recipe.crop != 1 else {}
    about |= {"interpolation": recipe.interpolation} if recipe.interpolation != "bilinear" else {}
    precision = choose_precision(config.precision, device)
    if config.precision == "auto" and precision != torch.float32:
        precision = _checked(precision, backbone, recipe, dataset, device, about, workspace.cache / "precisions")
    if config.decode == "device":
        about = about | {"decoder": device.type}
    about = about | {"precision": str(precision).removeprefix("torch.")}
    store = FeatureStore.open(_folder(about, workspace.cache / "features"), about)
    return Space(store, about, outline, weights, precision, _widths(backbone, recipe.size))


@torch.inference_mode()
def _widths(backbone: Backbone, size: int) -> tuple[int, ...]:
    return tuple(part.shape[1] for part in backbone.parts(torch.zeros(1, 3, size, size, dtype=torch.uint8)))


def _folder(about: dict[str, object], spaces: Path) -> Path:
    return spaces / fingerprint(about)


def wanted_keys(dataset: Dataset, *splits: str) -> np.ndarray:
    """Contents of all images that are learned from or evaluated on, or of some splits, each once, in the order of the
    manifest.

    The manifest is read in blocks, so that memory holds 16 bytes per image.
    """
    with parquet.ParquetFile(dataset.manifest) as manifest:
        blocks = [
            keys_of(block.filter(pc.is_in(block["split"], pa.array(splits or LEARNED)))["hash"])
            for block in manifest.iter_batches(columns=["hash", "split"])
        ]
    keys = np.concatenate(blocks)
    _, first = np.unique(keys, return_index=True)
    return keys[np.sort(first)]


def _checked(
    precision: torch.dtype, backbone: Backbone, recipe: Recipe, dataset: Dataset, device: torch.device,
    about: dict[str, object], folder: Path,
) -> torch.dtype:  # fmt: skip
    """The lower precision if it loses nothing that tells images apart; decided once, so that it does not change when
    images are added."""
    path = folder / f"{fingerprint(about, str(precision), device.type)}.json"
    if not path.exists():
        images = [dataset.image(key.hex()) for key in wanted_keys(dataset)[:CHECKED].view("V16").tolist()]
        pixels = torch.stack([recipe(image) for image in images]).reshape(-1, 3, recipe.size, recipe.size).to(device)
        rough, exact = (inference.prepared(backbone, device, kind) for kind in (precision, torch.float32))
        lost = noise(rough, exact, pixels)
        taken = precision if lost <= MOST_NOISE else torch.float32
        if taken != precision:
            tell(f"extract\t{precision} would lose {lost:.0%} of the features' spread: takes fp32")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({"precision": str(taken).removeprefix("torch."), "noise": lost}))
    return getattr(torch, json.loads(path.read_text())["precision"])


def _code() -> str:
    """What turns a file into features: a change there makes another feature space."""
    modules = (decode, depth, geometry, augment, backbones, inference)
    return fingerprint([file_digest(Path(str(module.__file__))) for module in modules])
