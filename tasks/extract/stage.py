"""The extract stage as the flow sees it: what it does is imported when it is done, not found in the cache."""

from __future__ import annotations

from tasks.door import stage
from tasks.extract.config import ExtractConfig
from tasks.records import Dataset, FeatureSet, Preprocessed, Split
from tasks.workspace import Workspace


@stage(state=lambda config, dataset, preprocessed, splits=(): _weights_file_state(config))
def extract(
    config: ExtractConfig, dataset: Dataset, preprocessed: Preprocessed, splits: tuple[Split, ...] = ()
) -> FeatureSet:
    """Run the frozen backbone over every image that it has not seen yet."""
    from tasks.extract.door import extract_features

    return extract_features(config, dataset, preprocessed, Workspace.find(), splits)


def _weights_file_state(config: ExtractConfig) -> list[float]:
    """A file named in the configuration may be replaced by another of the same name."""
    path = Workspace.find().resolve(config.weights)
    return [path.stat().st_size, path.stat().st_mtime] if path.is_file() else []
