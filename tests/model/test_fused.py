"""A package of several backbones answers as the features that its head was trained on do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.errors import WeightsError
from tasks.extract.config import BesideConfig
from tasks.extract.door import extract_features
from tasks.extract.joined import JoinedStore, widths_of
from tasks.extract.weights import build_network, read_weights
from tasks.limits import ALLOWED
from tasks.model.bundle import HEAD, backbones_in
from tasks.model.classifier import ImageClassifier, package
from tasks.model.eyes import eyes_of
from tasks.records import Dataset, FeatureSet
from tasks.register.rivals import _registered
from tasks.rival import Rival
from tasks.target import one_task
from tasks.teachers import Teachers
from tasks.train.distillation.teachers import answers
from tasks.train.fusion.parts import parts_of
from tasks.train.heads import Head, predict_probabilities
from tasks.workspace import Workspace
from tests.extract.test_door import CONFIG, RECIPE, dataset, extracted

CLASSES = ["ant", "bee"]
BESIDE = BesideConfig(backbone="resnet_32px", weights="random", layer="blocks.1", size=24, crop=0.8, fit="pad")
FUSED = CONFIG.model_copy(update={"beside": [BESIDE]})


def packed(workspace: Workspace, images: Dataset, folder: Path) -> tuple[FeatureSet, Head]:
    features = extracted(workspace, images, FUSED)
    found = torch.from_numpy(JoinedStore(features).read(images.read_manifest()["hash"].tolist()))
    torch.manual_seed(0)
    head = Head(features.width, 2, 8, kind="gated", parts=parts_of(widths_of(features))).standardise_like(found).eval()
    head.save(workspace.root / "trained.safetensors")
    first, *others = eyes_of(features, RECIPE, ALLOWED, workspace)
    folder.mkdir()
    package(folder, **vars(first), head=workspace.root / "trained.safetensors", classes=CLASSES, beside=others)
    return features, head


def test_the_package_answers_as_the_features_do(workspace: Workspace, tmp_path: Path) -> None:
    images = dataset(workspace, 9)
    features, head = packed(workspace, images, tmp_path / "packed")
    keys = images.read_manifest()["hash"].tolist()
    wanted = predict_probabilities(head, torch.from_numpy(JoinedStore(features).read(keys)))
    classifier = ImageClassifier.load(tmp_path / "packed", device="cpu")
    found = classifier.probabilities([images.image(key) for key in keys])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert len(classifier.engines) == 2 and wanted.std(0).min() > 1e-3  # answers differ from image to image
    assert classifier.predict([images.image(keys[0]).read_bytes()])["label"][0] in CLASSES


def test_a_fused_version_is_looked_at_as_it_was_packaged(workspace: Workspace, tmp_path: Path) -> None:
    """The section that a comparison extracts a champion's features by finds those that the package was trained on."""
    images = dataset(workspace, 4)
    features, _ = packed(workspace, images, tmp_path / "packed")

    class Version:
        name, version, tags = "photos", "3", {"candidate": "c"}

    rival = _registered(Version(), tmp_path / "packed")  # type: ignore[arg-type]
    sees = RECIPE.seen_as(rival.geometry)
    looks = CONFIG.model_validate(CONFIG.model_dump(include={"device", "batch_size"}) | rival.extraction)
    theirs = extract_features(looks, images, sees, workspace)
    assert (theirs.new, theirs.reused) == (0, 8)
    keys = images.read_manifest()["hash"].tolist()
    np.testing.assert_array_equal(JoinedStore(theirs).read(keys), JoinedStore(features).read(keys))


def test_a_fused_teacher_answers_as_its_package_does(workspace: Workspace, tmp_path: Path) -> None:
    images = dataset(workspace, 5).model_copy(update={"targets": one_task(tuple(reversed(CLASSES)))})
    features, _ = packed(workspace, images, tmp_path / "packed")
    version = Rival(
        fingerprint="t", name="photos", version=1, bundle=tmp_path / "packed", classes=tuple(CLASSES), data="d",
        learned_from=("train",), extraction={}, geometry={},
    )  # fmt: skip
    heads = (tmp_path / "packed" / HEAD,)
    taught = answers(
        Teachers(fingerprint="t", versions=(version,), heads=heads, features=(features,)),
        images,
        images.read_manifest(),
    )
    paths = [images.image(key) for key in images.read_manifest()["hash"]]
    found = ImageClassifier.load(tmp_path / "packed", device="cpu").probabilities(paths)
    torch.testing.assert_close(taught, found.flip(1), rtol=1e-4, atol=1e-5)  # the student's classes are the other way


def test_a_package_names_each_backbone_and_holds_its_weights(workspace: Workspace, tmp_path: Path) -> None:
    packed(workspace, dataset(workspace, 2), tmp_path / "packed")
    (first, one), (second, other) = backbones_in(tmp_path / "packed")
    assert (one.name, other.name) == ("backbone.safetensors", "backbone_2.safetensors")
    assert first["classes"] == CLASSES and (second["recipe"]["size"], second["recipe"]["fit"]) == (24, "pad")
    wanted = read_weights("resnet_32px", "random", Path()).digest
    assert read_weights("resnet_32px", str(other), other).digest == wanted


def test_weights_that_changed_since_they_were_looked_through_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    path = workspace.root / "weights.pth"
    torch.save(build_network("resnet_32px").state_dict(), path)
    changed = FUSED.model_copy(update={"beside": [BESIDE.model_copy(update={"weights": "weights.pth"})]})
    features = extracted(workspace, dataset(workspace, 2), changed)
    torch.save(build_network("resnet_32px").state_dict(), path)
    with pytest.raises(WeightsError, match=r"weights\.pth changed while the pipeline ran"):
        eyes_of(features, RECIPE, ALLOWED, workspace)


def test_a_package_of_one_backbone_says_nothing_of_others(bundle: Path) -> None:
    assert "beside" not in json.loads((bundle / "classifier.json").read_text())
    assert len(ImageClassifier.load(bundle, device="cpu").engines) == 1
