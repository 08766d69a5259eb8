"""The extract stage as the flow sees it: what it does is imported when it is done, not found in the cache."""

from __future__ import annotations

from tasks.door import stage
from tasks.extract.check import weights_state
from tasks.extract.config import ExtractConfig
from tasks.records import Dataset, FeatureSet, Preprocessed, Split
from tasks.workspace import Workspace


@stage(state=lambda config, dataset, preprocessed, splits=(): weights_state(config, Workspace.find()))
def extract(
    config: ExtractConfig, dataset: Dataset, preprocessed: Preprocessed, splits: tuple[Split, ...] = ()
) -> FeatureSet:
    """Run the frozen backbone over every image that it has not seen yet."""
    from tasks.extract.door import extract_features

    return extract_features(config, dataset, preprocessed, Workspace.find(), splits)
