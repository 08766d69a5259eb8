"""The train stage as the flow sees it: what it does is imported when it is done, not found in the cache."""

from __future__ import annotations

from tasks.door import stage
from tasks.records import Candidate, Dataset, FeatureSet, Preprocessed
from tasks.train.method import Method
from tasks.workspace import Workspace


@stage()
def train(config: Method, dataset: Dataset, preprocessed: Preprocessed, features: FeatureSet) -> Candidate:
    """Fit a model to the training images; choose on validation; leave the held-out split alone."""
    from tasks.train.door import train_head

    return train_head(config, dataset, preprocessed, features, Workspace.find())
