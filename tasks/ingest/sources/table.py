"""A table that lists images: CSV or Parquet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from pydantic import Field

from tasks.errors import DataError
from tasks.ingest.kinds import Problem
from tasks.ingest.naming import split_called
from tasks.ingest.sources.base import LARGEST, Item, Source, local_path
from tasks.ingest.storage import stamp_of
from tasks.workspace import Workspace

YES = frozenset(["1", "1.0", "true", "yes", "y"])
NO = frozenset(["", "0", "0.0", "false", "no", "n", "-1", "-1.0"])
"""What one-hot columns hold."""


class TableSource(Source):
    """A CSV or Parquet file with one row per image: its path or URL, its label or labels, and perhaps split, domain
    and group."""

    table: str
    """Path or URL of the .csv, .tsv or .parquet file."""
    image: str = "path"
    """Column of paths, relative to the table's folder, or URLs."""
    label: str | list[str] = "label"
    """Column of the label; an empty cell means unlabelled. Several columns of 0 and 1 give several labels."""
    separator: str | None = None
    """What stands between several labels in one cell, for example ``;``."""
    split: str = "split"
    """Column of splits, where there is one."""
    domain: str = "domain"
    """Column of domains, where there is one."""
    group: str = "group"
    """Column of groups, where there is one: patients, scenes, days."""
    roots: list[str] = Field(default_factory=list)
    """Folders and URLs that rows may name images below, beside the table's own folder."""
    remembers: ClassVar[bool] = True

    def is_multi_label(self) -> bool:
        """Whether several labels are configured."""
        return isinstance(self.label, list) or self.separator is not None

    def check(self, workspace: Workspace) -> None:
        """A file on this machine is there."""
        table = local_path(self.table, workspace)
        if table is not None and not table.is_file():
            what = "is a folder" if table.is_dir() else "does not exist"
            raise DataError(f"{table} {what}: ingest.source.table must name a .csv, .tsv or .parquet file")

    def items(self, workspace: Workspace, limit: int = LARGEST) -> Iterator[Item]:
        """Every row; of images on this machine, size and time are read."""
        from tasks.ingest.rows import read_rows

        self.check(workspace)
        table = local_path(self.table, workspace)
        roots = _Roots(table or self.table, self.roots, workspace)
        for number, row in read_rows(table or self.table, self._columns()):
            if isinstance(row, str):
                yield Item(f"row {number}", problem=Problem("bad_row", row))
            else:
                yield self._item(number, row, roots)

    def state(self, workspace: Workspace) -> str:
        """Of the table and of the images that it names on this machine."""
        from tasks.fingerprint import fingerprint

        return fingerprint(self.model_dump(mode="json"), super().state(workspace))

    def _columns(self) -> tuple[list[str], list[str]]:
        labels = self.label if isinstance(self.label, list) else [self.label]
        return [self.image, *labels], [self.split, self.domain, self.group]

    def _item(self, number: int, row: dict[str, str], roots: _Roots) -> Item:
        named = row[self.image].strip()
        if not named:
            return Item(f"row {number}", problem=Problem("bad_row", f"row {number}: no {self.image}"))
        try:
            labels = self._labels(row)
            split = _split(row.get(self.split, ""))
        except ValueError as error:
            return Item(named, problem=Problem("bad_row", f"row {number}: {error}"))
        place, path, problem = roots.find(named)
        if problem is not None:
            return Item(named, problem=Problem(problem.kind, f"row {number}: {problem.reason}"))
        try:
            stamp = stamp_of(Path(place)) if "://" not in place else None
        except OSError as error:
            problem = Problem("missing", f"row {number}: {place}: {error.strerror}")
            return Item(named, problem=problem, labels=labels)
        domain, group = row.get(self.domain) or None, row.get(self.group) or None
        return Item(path, place=place, stamp=stamp, labels=labels, split=split, domain=domain, group=group)

    def _labels(self, row: dict[str, str]) -> tuple[str, ...] | None:
        if isinstance(self.label, str):
            cell = row[self.label].strip()
            if not cell:
                return None
            parts = cell.split(self.separator) if self.separator else [cell]
            return tuple(part.strip() for part in parts if part.strip()) or None
        cells = {name: row[name].strip().lower() for name in self.label}
        for name, cell in cells.items():
            if cell not in YES | NO:
                raise ValueError(f"column {name} holds {cell!r} where 0 or 1 is expected")
        if not any(cells.values()):
            return None
        return tuple(name for name, cell in cells.items() if cell in YES)


def _split(cell: str) -> str | None:
    if not (name := cell.strip()):
        return None
    if (split := split_called(name)) is None:
        raise ValueError(f"the split {name!r} is none: train, val, test or pool, or another usual name of these")
    return split


class _Roots:
    """The folders and URLs below which rows may name images."""

    def __init__(self, table: Path | str, named: list[str], workspace: Workspace) -> None:
        self.base = table.parent if isinstance(table, Path) else table.rpartition("/")[0]
        self.folders: list[Path] = [self.base.resolve()] if isinstance(self.base, Path) else []
        self.urls = [] if isinstance(self.base, Path) else [f"{self.base}/"]
        for root in named:
            path = local_path(root, workspace)
            if path is None:
                self.urls.append(root.rstrip("/") + "/")
            else:
                self.folders.append(path.resolve())

    def find(self, named: str) -> tuple[str, str, Problem | None]:
        """Where a row's image is to be read, and where it belongs in the dataset."""
        if "\0" in named or len(named) > 4096:
            return "", "", Problem("bad_row", "its path holds a zero byte or is longer than 4,096 characters")
        if "://" not in named and isinstance(self.base, Path):
            path = Path(named) if named.startswith("/") else self.base / named
            real = Path(os.path.realpath(path))  # follows links and '..', and says nothing where links lead in circles
            for folder in self.folders:
                if real.is_relative_to(folder):
                    return str(real), real.relative_to(folder).as_posix(), None
            return "", "", Problem("unsafe_path", f"{named} leads out of the table's folder and ingest.source.roots")
        url = named if "://" in named else f"{self.base}/{named}"
        for root in self.urls:
            if url.startswith(root) and ".." not in PurePosixPath(unquote(urlsplit(url).path)).parts:
                return url, url.removeprefix(root).replace("?", "-"), None
        return "", "", Problem("unsafe_path", f"{named} lies below no URL of ingest.source.roots")
