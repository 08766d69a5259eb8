"""A backbone's features of a sample, scored, and how long they take."""

from __future__ import annotations

import torch

from tasks.evaluate.transferability.ranking import Rated, rate
from tasks.evaluate.transferability.sample import classes_of
from tasks.extract.backbones import load_backbone
from tasks.extract.facts import facts_of
from tasks.extract.precision import choose_device
from tasks.extract.speed import TIMED, milliseconds_of
from tasks.extract.weights import read_weights
from tasks.preprocess.recipe import Recipe
from tasks.records import Dataset, FeatureSet, Preprocessed
from tasks.train.task import labelled
from tasks.workspace import Workspace


def rate_backbone(
    name: str, sample: Dataset, preprocessed: Preprocessed, features: FeatureSet, workspace: Workspace
) -> Rated:
    """Score a backbone by its features of a sample (see `.sample.draw_sample`)."""
    rows = sample.read_manifest()
    matrix, _ = labelled(sample, features, rows)
    known = facts_of(features.backbone)
    milliseconds, parameters = _cost(sample, preprocessed, features, workspace)
    return rate(
        name, matrix.numpy(), classes_of(rows), milliseconds, known.flops if known else 0, parameters
    )  # fmt: skip


def _cost(sample: Dataset, preprocessed: Preprocessed, features: FeatureSet, workspace: Workspace) -> tuple[float, int]:
    """Milliseconds from an image's file to its features on the device of the run, and parameters up to the layers."""
    weights = read_weights(features.backbone, features.weights, workspace.resolve(features.weights))
    backbone, _ = load_backbone(features.backbone, weights, features.layers, features.pool, preprocessed.size)
    recipe = Recipe(**preprocessed.geometry, limits=sample.limits)
    paths = [sample.image(content) for content in sample.read_manifest()["hash"].iloc[:TIMED]]
    device, precision = choose_device(features.extraction.get("device", "auto")), getattr(torch, features.precision)
    milliseconds = milliseconds_of(backbone, paths, recipe, device, precision)
    return milliseconds, sum(each.numel() for each in backbone.parameters())
