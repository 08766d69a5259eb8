"""Packaged models, and a photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.extract.backbones import load_backbone
from tasks.extract.weights import read_weights
from tasks.limits import Limits
from tasks.model.classifier import package
from tasks.preprocess.recipe import Recipe
from tasks.train.heads import Head

CLASSES = ["ant", "bee", "cat", "dog"]
LIMITS = Limits(pixels=1_000_000, bytes=100_000)
"""What the models were trained under."""


def make_bundle(folder: Path, multi_label: bool) -> Path:
    weights = read_weights("resnet_32px", "builtin", Path("nowhere"))
    backbone, outline = load_backbone("resnet_32px", weights)
    torch.manual_seed(0)
    head = Head(512, 4, multi_label=multi_label)
    head.standardise_like(backbone(torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)).detach())
    if multi_label:
        head.layers.bias.data -= 0.5  # some images have no label at all
    head.save(folder / "trained.safetensors")
    (folder / "packed").mkdir()
    package(
        folder / "packed", outline=outline, weights=weights, recipe=Recipe(32, limits=LIMITS), precision="float32",
        head=folder / "trained.safetensors", classes=CLASSES,
    )  # fmt: skip
    return folder / "packed"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle"), multi_label=False)


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network, for images that may have several labels."""
    return make_bundle(tmp_path_factory.mktemp("several"), multi_label=True)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return path
