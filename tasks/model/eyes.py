"""Backbones that features were computed by, as they go into a package."""

from __future__ import annotations

from tasks.errors import WeightsError
from tasks.extract.backbones import load_backbone
from tasks.extract.joined import backbones_of
from tasks.extract.weights import read_weights
from tasks.limits import Limits
from tasks.model.classifier import Eye
from tasks.preprocess.recipe import Recipe
from tasks.records import FeatureSet, Preprocessed
from tasks.workspace import Workspace


def eyes_of(features: FeatureSet, preprocessed: Preprocessed, limits: Limits, workspace: Workspace) -> list[Eye]:
    """The backbones that features were computed by, in their order.

    Raises:
        WeightsError: the weights of one are no longer those that the features were computed with.
    """
    return [_eye(each, preprocessed, limits, workspace) for each in backbones_of(features)]


def _eye(features: FeatureSet, preprocessed: Preprocessed, limits: Limits, workspace: Workspace) -> Eye:
    weights = read_weights(features.backbone, features.weights, workspace.resolve(features.weights))
    if weights.digest != features.digest:
        raise WeightsError(f"{features.weights} changed while the pipeline ran; run it again")
    recipe = Recipe(**preprocessed.geometry | features.geometry, limits=limits)
    _, outline = load_backbone(features.backbone, weights, features.layers, features.pool, recipe.size)
    return Eye(outline, weights, recipe, features.precision)
