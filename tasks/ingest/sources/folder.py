"""A folder of images, on this machine or in an object store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from tasks.errors import DataError
from tasks.ingest.kinds import EMPTY_FOLDER, Problem
from tasks.ingest.layout import Layout
from tasks.ingest.sources.base import FILLED, IN_CLASS_FOLDERS, LARGEST, Item, Source, is_filled, local_path
from tasks.ingest.sources.groups import GroupPattern, Groups
from tasks.ingest.storage import APART, count_files, is_hidden, walk
from tasks.workspace import Workspace


class FolderSource(Source):
    """A folder with one sub-folder per class, or with train/, val/ and test/ above those."""

    folder: str
    """Path, or URL such as s3://bucket/photos, gs://bucket/photos, file:///photos."""
    layout: str = "auto"
    """What the folders mean: ``label``, ``split/label``, ``domain/label``, ``group/label``...; ``*`` means nothing."""
    group: GroupPattern | None = None
    """Regular expression that finds a file's group in its name: ``^(track\\d+)_``."""
    expects: ClassVar[str] = IN_CLASS_FOLDERS

    def check(self, workspace: Workspace) -> None:
        """A folder on this machine is there, and the layout's words are known."""
        if self.layout != "auto":
            Layout.parse(self.layout)
        self._root(workspace)

    def items(self, workspace: Workspace, limit: int = LARGEST) -> Iterator[Item]:
        """Every file; only names, sizes and times are read."""
        self.check(workspace)
        groups = Groups(self.group, self.layout)
        for entry in walk(self._root(workspace), folders=True, apart=_filled(workspace)):
            problem = EMPTY_FOLDER if entry.relative.endswith("/") else None
            if entry.stamp == APART:
                problem = Problem("hidden", FILLED)
            elif is_hidden(entry.relative):
                problem = Problem("hidden", "hidden, or left by the operating system")
            yield Item(
                entry.relative, place=entry.place, stamp=entry.stamp or None, problem=problem, layout=self.layout,
                group=groups.of(entry.relative) if problem is None else None,
            )  # fmt: skip
        groups.check()

    def total(self, workspace: Workspace) -> int:
        """Files in the folder."""
        root = self._root(workspace)
        inside = [folder for folder in _filled(workspace) if isinstance(root, Path) and folder.is_relative_to(root)]
        return count_files(root) - sum(map(count_files, inside))

    def _root(self, workspace: Workspace) -> Path | str:
        root = local_path(self.folder, workspace)
        if root is None:
            return self.folder
        if not root.is_dir():
            what = "is not a folder" if root.exists() else "does not exist"
            raise DataError(f"{root} {what}: ingest.source.folder must name a folder of images")
        if is_filled(root, workspace):
            raise DataError(f"{root} is {FILLED}")
        return root


def _filled(workspace: Workspace) -> tuple[Path, ...]:
    """Folders of images that no source holds: those of the dataset, and of what runs have drawn."""
    return (workspace.data, workspace.mlruns)
