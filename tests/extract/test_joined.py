"""Several backbones look at the same images, each in a feature space of its own, and their features are read as one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from tasks.extract.backbones import load_backbone
from tasks.extract.config import BesideConfig, ExtractConfig
from tasks.extract.door import extract_features
from tasks.extract.joined import JoinedStore, backbones_of, counted_alike, widths_of
from tasks.extract.weights import read_weights
from tasks.preprocess.recipe import Recipe
from tasks.records import Dataset, FeatureSet
from tasks.workspace import Workspace
from tests.extract.test_door import CONFIG, RECIPE, dataset, extracted

OTHER = {"backbone": "resnet_32px", "weights": "random", "layer": "blocks.1", "size": 24, "fit": "squash"}
FUSED = CONFIG.model_copy(update={"beside": [BesideConfig(**OTHER)]})
ALONE = ExtractConfig(**{key: OTHER[key] for key in ("backbone", "weights", "layer")}, **CONFIG.model_dump(
    include={"precision", "device", "batch_size"}
))  # fmt: skip


def alone(workspace: Workspace, images: Dataset) -> FeatureSet:
    """The second backbone by itself, as a run of its own would have it."""
    seen = RECIPE.model_copy(update={"size": 24, "fit": "squash"})
    return extract_features(ALONE, images, seen, workspace)


def test_a_fused_run_finds_what_single_runs_have_computed_and_the_other_way_round(workspace: Workspace) -> None:
    images = dataset(workspace, 8)
    assert extracted(workspace, images).new == 8
    fused = extracted(workspace, images, FUSED)
    assert (fused.new, fused.reused) == (8, 8)
    second = alone(workspace, images)
    assert (second.new, second.reused) == (0, 8)
    assert second.store == fused.beside[0].store


def test_features_stand_side_by_side_in_the_order_of_the_configuration(workspace: Workspace) -> None:
    images = dataset(workspace, 6)
    first, fused, second = extracted(workspace, images), extracted(workspace, images, FUSED), alone(workspace, images)
    keys = images.read_manifest()["hash"].tolist()[::-1]
    both = [JoinedStore(each).read(keys) for each in (first, second)]
    assert widths_of(fused) == (first.width, second.width) and fused.width == first.width + second.width
    assert counted_alike(fused) == widths_of(fused) and counted_alike(first) == (first.width,)
    np.testing.assert_array_equal(JoinedStore(fused).read(keys), np.concatenate(both, axis=1))
    assert [each.width for each in backbones_of(fused)] == [first.width, second.width]
    assert fused.fingerprint not in (first.fingerprint, second.fingerprint)


def test_each_backbone_looks_at_images_in_its_own_way(workspace: Workspace) -> None:
    images = dataset(workspace, 2)
    fused = extracted(workspace, images, FUSED)
    about = json.loads((fused.beside[0].store / "space.json").read_text())
    assert (about["size"], about["fit"], about["layer"]) == (24, "squash", ["blocks.1"])
    backbone, _ = load_backbone("resnet_32px", read_weights("resnet_32px", "random", workspace.root), ["blocks.1"])
    keys = images.read_manifest()["hash"].tolist()
    pixels = torch.stack([Recipe(24, "squash")(images.image(key)) for key in keys])
    with torch.inference_mode():
        wanted = backbone(pixels).numpy()
    np.testing.assert_allclose(JoinedStore(fused).read(keys)[:, 512:], wanted, rtol=1e-3, atol=1e-4)


def test_layers_of_a_backbone_are_parts_with_widths_of_their_own(workspace: Workspace) -> None:
    config = CONFIG.model_copy(update={"layer": ["blocks.1", "flatten"], "beside": FUSED.beside})
    found = extracted(workspace, dataset(workspace, 2), config)
    assert widths_of(found) == (*backbones_of(found)[0].widths, found.beside[0].width) and len(found.widths) == 3
    assert counted_alike(backbones_of(found)[0]) == (sum(found.widths[:2]),)
    assert sum(found.widths) == found.width and found.widths[1] == 512


def test_augmented_views_are_read_of_all_backbones(workspace: Workspace) -> None:
    images = dataset(workspace, 4)
    fused = extract_features(FUSED, images, RECIPE.model_copy(update={"augmented": 1}), workspace)
    keys = images.read_manifest()["hash"].tolist()
    plain, view = (JoinedStore(fused, variant).read(keys) for variant in (0, 1))
    assert plain.shape == view.shape
    assert not np.allclose(plain[:, :512], view[:, :512]) and not np.allclose(plain[:, 512:], view[:, 512:])


def test_a_set_is_complete_only_while_every_backbone_s_features_are_there(workspace: Workspace) -> None:
    images = dataset(workspace, 3)
    fused = extracted(workspace, images, FUSED)
    again = FeatureSet.model_validate_json(fused.model_dump_json())
    assert again == fused and again.is_complete()
    keys = images.read_manifest()["hash"].tolist()
    assert not JoinedStore(fused).missing(keys).any()
    assert JoinedStore(fused).missing([*keys[:1], "0" * 32]).tolist() == [False, True]
    shutil.rmtree(fused.beside[0].store)
    assert not again.is_complete()


@pytest.mark.parametrize(
    ("name", "looks"),
    [
        ("resnet_32px", (32, "crop", 1.0, "bilinear")),
        ("mobilenet_v2", (224, "crop", 1.0, "bilinear")),
        ("timm/tf_efficientnet_lite0", (224, "crop", 0.875, "bicubic")),
    ],
)
def test_a_backbone_beside_another_looks_as_it_was_trained_to_where_nothing_else_is_said(name: str, looks) -> None:
    other = BesideConfig(backbone=name)
    assert (other.size, other.fit, other.crop, other.interpolation) == looks
    assert BesideConfig(backbone=name, size=96).size == 96
    [_, (section, geometry)] = ExtractConfig(beside=[other], precision="fp32").alone({"size": 8, "views": "ten"})
    assert (section.backbone, section.precision, section.beside) == (name, "fp32", [])
    assert geometry == {"views": "ten"} | other.geometry
    assert replace(Recipe(**geometry), views="one").size == looks[0]
