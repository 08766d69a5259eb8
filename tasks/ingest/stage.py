"""The ingest stage as the flow sees it: what it does is imported when it is done, not found in the cache."""

from __future__ import annotations

from tasks.door import stage
from tasks.fingerprint import fingerprint
from tasks.ingest.config import IngestConfig
from tasks.records import Dataset
from tasks.workspace import Workspace


@stage(state=lambda config: _state(config))
def ingest(config: IngestConfig) -> Dataset:
    """Bring the images of a source into ``data/``, checked, split and versioned."""
    from tasks.ingest.door import ingest_images

    return ingest_images(config, Workspace.find())


def _state(config: IngestConfig) -> str:
    """Of the source's files, of what this machine can decode of them, and of the labels that are corrected."""
    from tasks.ingest.corrections import corrections_state
    from tasks.ingest.formats import extras

    workspace = Workspace.find()
    return fingerprint(config.source.state(workspace), extras(), corrections_state(workspace))
