"""A batch is held against what its model is used to, whatever the model tells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.unlike import Batch
from tasks.extract.backbones import load_backbone
from tasks.extract.weights import read_weights
from tasks.model.classifier import ImageClassifier
from tasks.model.reference import Reference, embed
from tasks.preprocess.recipe import Recipe
from tasks.train.heads import Head

CLASSES = ["ant", "bee"]


def make_classifier(number: bool) -> ImageClassifier:
    """One that has features of a normal distribution in mind."""
    backbone, _ = load_backbone("resnet_32px", read_weights("resnet_32px", "builtin", Path("nowhere")))
    head = Head(512, 2, number=number).eval()
    known = torch.randn(200, 512, generator=torch.Generator().manual_seed(0))
    confusion = np.zeros((0, 0)) if number else np.array([[90.0, 10.0], [10.0, 90.0]])
    classes = [] if number else CLASSES
    classifier = ImageClassifier(backbone, head, Recipe(32), classes, torch.device("cpu"), torch.float32)
    classifier.reference = Reference(embed(head, known), confusion, "val")
    return classifier


def told_of(classifier: ImageClassifier, away: float, target: Path) -> str | None:
    batch = Batch(classifier)
    features = away + torch.randn(100, 512, generator=torch.Generator().manual_seed(1))
    batch.add(features, torch.tensor([[0.9, 0.1]]).expand(100, 2))
    return batch.report(target)


@pytest.mark.parametrize("number", [True, False])
def test_only_what_is_unlike_is_told_and_classes_only_where_there_are_any(number: bool, tmp_path: Path) -> None:
    classifier, target = make_classifier(number), tmp_path / "out.parquet"
    line = told_of(classifier, 0.5, target)
    assert line is not None and "these 100 images are unlike" in line and line.endswith("see out.parquet.shift.json")
    said = json.loads((tmp_path / "out.parquet.shift.json").read_text())
    assert said["effect"] > 0.2 and said["reference"] == "val"
    assert ("class" in line) == ("classes" in said) == (not number)
    assert told_of(classifier, 0.0, target) is None and not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(0, 0), (3, 3), (3, 2, 2)])
def test_a_reference_is_read_back_as_it_was_in_silence(shape: tuple[int, ...], tmp_path: Path) -> None:
    confusion = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    kept = Reference(np.ones((2, 4), np.float32), confusion, "val")
    kept.save(file := tmp_path / "reference.safetensors")
    torch.set_warn_always(True)  # else torch warns once in a process
    try:
        read = Reference.load(file)
    finally:
        torch.set_warn_always(False)
    assert read.split == "val" and (read.embeddings == kept.embeddings).all()
    assert read.confusion.shape == shape and (read.confusion == confusion).all()
