"""The train stage as the flow sees it: what it does is imported when it is done, not found in the cache."""

from __future__ import annotations

from tasks.choice import Trial
from tasks.door import stage
from tasks.records import Candidate, Dataset, FeatureSet, Preprocessed
from tasks.teachers import Teachers
from tasks.train.method import Method
from tasks.workspace import Workspace


@stage()
def train(
    config: Method, dataset: Dataset, preprocessed: Preprocessed, features: FeatureSet, teachers: Teachers | None = None
) -> Candidate:
    """Fit a model to the training images; choose on validation; leave the held-out split alone."""
    from tasks.train.door import train_head

    return train_head(config, dataset, preprocessed, features, Workspace.find(), teachers)


@stage()
def attempt(
    config: Method, dataset: Dataset, preprocessed: Preprocessed, features: FeatureSet, images: int, judged: int
) -> Trial:
    """Try a method on a part of the training images, for the sake of its score."""
    from tasks.train.anytime.trial import try_method

    return try_method(config, dataset, preprocessed, features, images, judged, Workspace.find())
