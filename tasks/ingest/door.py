"""The door of the ingest stage."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import cast

import pandas as pd

from tasks.door import stage
from tasks.fingerprint import fingerprint
from tasks.ingest.config import IngestConfig
from tasks.ingest.manifest import assign_splits, check_labels, find_images, findings, take_in
from tasks.ingest.sources import fetch, source_state
from tasks.ingest.versioning import add_version
from tasks.records import Dataset, Split
from tasks.workspace import Workspace, fresh_folder


@stage(state=lambda config: source_state(config.source, Workspace.find()))
def ingest(config: IngestConfig) -> Dataset:
    """Bring the images of a source into ``data/``, split and versioned."""
    return ingest_images(config, Workspace.find())


def ingest_images(config: IngestConfig, workspace: Workspace) -> Dataset:
    """Read a source, keep out what cannot be decoded, split, and add a version of ``data/``.

    Raises:
        DataError: the source is missing, empty, corrupt or has one class only.
    """
    workspace.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workspace.cache, prefix="ingest-", ignore_cleanup_errors=True) as temporary:
        scratch = Path(temporary)
        found, others = find_images(fetch(config.source, workspace, scratch))
        filled = scratch / "data"
        filled.mkdir()
        manifest, quarantine = take_in(found, filled)
        manifest, choose_on, report_on = assign_splits(manifest, config.val, config.test)
        classes = check_labels(manifest)
        manifest.to_parquet(filled / "manifest.parquet", index=False)
        version, images = add_version(filled, workspace)
    folder = _keep_beside(manifest, quarantine, workspace, version)
    notes = [f"{len(others):,} files are no images"] if others else []
    return Dataset(
        fingerprint=fingerprint(version),
        source=str(config.source),
        version=version,
        manifest=folder / "manifest.parquet",
        quarantine=folder / "quarantine.csv",
        images=images,
        classes=classes,
        counts=cast(dict[Split, int], manifest["split"].value_counts().to_dict()),
        choose_on=choose_on,
        report_on=report_on,
        quarantined=len(quarantine),
        findings=tuple(findings(manifest) + notes),
    )


def _keep_beside(manifest: pd.DataFrame, quarantine: pd.DataFrame, workspace: Workspace, version: str) -> Path:
    """``data/`` may be replaced by the next dataset; a run goes on reading its own manifest."""
    final = workspace.cache / "datasets" / version
    with fresh_folder(final) as folder:
        manifest.to_parquet(folder / "manifest.parquet", index=False)
        quarantine.to_csv(folder / "quarantine.csv", index=False)
    return final
