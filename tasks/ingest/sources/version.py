"""A version of the dataset that was made before, as it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tasks.errors import ConfigurationError
from tasks.ingest.sources.base import LARGEST, Item, Source
from tasks.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


class VersionSource(Source):
    """A version of the dataset in this workspace's store, with the labels, splits, domains and groups that it has.

    ``headstart data list`` shows versions, ``headstart data pull`` fetches one from the remote.
    """

    version: str
    """All 32 digits, as in ``data.dvc``."""
    multi_label: bool = False
    """Whether an image may have several labels."""
    expects = "images of a version that headstart made"

    def is_multi_label(self) -> bool:
        """Whether several labels are configured."""
        return self.multi_label

    def check(self, workspace: Workspace) -> None:
        """The store has the version, and its labels are as configured."""
        self._manifest(workspace)

    def items(self, workspace: Workspace, limit: int = LARGEST) -> Iterator[Item]:
        """Every image, from the store."""
        from tasks.ingest.objects import object_path
        from tasks.ingest.repository import object_store

        store = object_store(workspace)
        rows = self._manifest(workspace)[["path", "label", "split", "domain", "group", "hash"]]
        for path, label, split, domain, group, hash in rows.itertuples(index=False, name=None):
            labels = None if label is None else tuple(label) if self.multi_label else (label,)
            place = str(object_path(store, hash))
            yield Item(path, place=place, stamp=hash, labels=labels, split=split, domain=domain, group=group)

    def total(self, workspace: Workspace) -> int:
        """The rows of its manifest."""
        return len(self._manifest(workspace))

    def _manifest(self, workspace: Workspace) -> pd.DataFrame:
        """The version's manifest, None where a cell is empty.

        Raises:
            DataError: the store does not have it.
            ConfigurationError: it has several labels an image and is not said to, or the other way round.
        """
        from tasks.ingest.versioning import read_manifest

        found = read_manifest(f"{self.version.removesuffix('.dir')}.dir", workspace).astype(object)
        found = found.where(found.notna(), None)
        if any(not isinstance(label, str) for label in found["label"] if label is not None) != self.multi_label:
            raise ConfigurationError(f"version {self.version}: multi_label has to be {not self.multi_label}")
        return found
