"""A backbone's features of a sample, scored, and how long they take."""

from __future__ import annotations

import torch

from tasks.evaluate.transferability.ranking import Rated, rate
from tasks.evaluate.transferability.sample import telling
from tasks.extract.backbones import load_backbone
from tasks.extract.inference import flops
from tasks.extract.precision import choose_device
from tasks.extract.speed import TIMED, milliseconds_of
from tasks.extract.weights import read_weights
from tasks.groups import group_numbers
from tasks.preprocess.recipe import Recipe
from tasks.records import Dataset, FeatureSet, Preprocessed
from tasks.train.task import labelled
from tasks.workspace import Workspace


def rate_backbone(
    name: str, sample: Dataset, preprocessed: Preprocessed, features: FeatureSet, workspace: Workspace
) -> Rated:
    """Score a backbone by its features of a sample (see `.sample.draw_sample`)."""
    rows = sample.read_manifest()
    matrix, targets = labelled(sample, features, rows)
    cost = cost_of(sample, preprocessed, features, workspace)
    return rate(name, matrix.numpy(), telling(targets.numpy()), *cost, group_numbers(rows))


def cost_of(
    sample: Dataset, preprocessed: Preprocessed, features: FeatureSet, workspace: Workspace
) -> tuple[float, int, int]:
    """Milliseconds from an image's file to its features on the device of the run, and operations of an image in all of
    its views, and parameters, both up to the layers."""
    weights = read_weights(features.backbone, features.weights, workspace.resolve(features.weights))
    backbone, _ = load_backbone(features.backbone, weights, features.layers, features.pool, preprocessed.size)
    recipe = Recipe(**preprocessed.geometry, limits=sample.limits)
    paths = [sample.image(content) for content in sample.read_manifest()["hash"].iloc[:TIMED]]
    device, precision = choose_device(features.extraction.get("device", "auto")), getattr(torch, features.precision)
    needed = recipe.count * flops(backbone, recipe.size)
    parameters = sum(each.numel() for each in backbone.parameters())
    return milliseconds_of(backbone, paths, recipe, device, precision), round(needed), parameters
