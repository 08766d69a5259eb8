"""The preprocess stage as the flow sees it: what it does is imported when it is done, not found in the cache."""

from __future__ import annotations

from tasks.door import stage
from tasks.preprocess.config import PreprocessConfig
from tasks.records import Dataset, Preprocessed
from tasks.workspace import Workspace


@stage()
def preprocess(config: PreprocessConfig, dataset: Dataset) -> Preprocessed:
    """Settle how images become the backbone's input, and show it on a sample."""
    from tasks.preprocess.door import preview_recipe

    return preview_recipe(config, dataset, Workspace.find())
