"""The ingest stage as the flow sees it: what it does is imported when it is done, not found in the cache."""

from __future__ import annotations

from tasks.door import stage
from tasks.ingest.config import IngestConfig
from tasks.records import Dataset
from tasks.workspace import Workspace


@stage(state=lambda config: config.state(Workspace.find()))
def ingest(config: IngestConfig) -> Dataset:
    """Bring the images of a source into ``data/``, checked, split and versioned."""
    from tasks.ingest.door import ingest_images

    return ingest_images(config, Workspace.find())
