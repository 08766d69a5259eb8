"""A table that lists images, or holds them."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from pydantic import Field, model_validator

from tasks.errors import ConfigurationError, DataError
from tasks.ingest.formats import extension_of
from tasks.ingest.kinds import Problem
from tasks.ingest.labels import AnyLabel, Asked, Tasks, labels_of, read_cells
from tasks.ingest.naming import has_drive, says_evaluation, says_labelled, slashed, split_called, splits_called
from tasks.ingest.nearby import hint, hint_below, in_its_form, plain_path
from tasks.ingest.sources.base import FILLED, LARGEST, Encoding, Item, Source, is_filled, local_path
from tasks.ingest.storage import stamp_of
from tasks.ingest.tables.columns import Row, Wanted
from tasks.ingest.tables.folds import Folds, SplitColumn
from tasks.records import Split
from tasks.target import LABEL
from tasks.wording import shorten
from tasks.workspace import Workspace

UNREAD = ("subset", "set", "usage", "partition", "phase", "splits", "dataset_split", "data_split")
"""What columns of splits are called by others than us; which one is meant has to be said."""

MOST = 10_000
"""Names of splits that are looked at: what has more is no column of splits."""


class TableSource(Source):
    """A CSV, Parquet, JSON or Excel file with one row per image: its path or URL, its label or labels, and perhaps
    split, domain and group."""

    table: str
    """Path or URL of the file: .csv, .tsv, .json, .jsonl, also compressed, .parquet or .xlsx."""
    image: str = "path"
    """Column of paths, relative to the table's folder, or URLs; of a Parquet file also of the images themselves."""
    label: AnyLabel = "label"
    """Column of the label; an empty cell means unlabelled. Several columns of 0 and 1 give several labels. Columns by
    the names of tasks give several tasks, or numbers: ``{species: species, age: {column: age, kind: number, unit:
    years}}``; the first one leads."""
    separator: str | None = None
    """What stands between several labels in one cell, for example ``;``, where that is no list."""
    split: SplitColumn = "split"
    """Column of splits, where there is one; one of another name than this must be there. Where its cells are numbers of
    folds, or yes and no, they are told: ``{column: fold, val: 4, test: 5}``, ``{column: is_valid, val: true}``."""
    domain: str = "domain"
    """Column of domains, likewise."""
    group: str = "group"
    """Column of groups, likewise: patients, scenes, days."""
    roots: list[str] = Field(default_factory=list)
    """Folders and URLs that rows may name images below, beside the table's own folder; what is not in that is looked
    for in these. Of several, each one's name is that of a folder around its images in the dataset."""
    suffix: str = ""
    """What names of images lack in the table, such as ``.jpg``."""
    encoding: Encoding | None = None
    """Of a text table that is not UTF-8 and has no byte order mark, such as ``windows-1252``."""
    expects: ClassVar[str] = "rows that name an image and its label"
    remembers: ClassVar[bool] = True
    tells_numbers: ClassVar[bool] = True

    @model_validator(mode="after")
    def _each_task_has_its_own_separator(self) -> TableSource:
        if isinstance(self.label, dict) and self.separator is not None:
            raise ValueError("name separator with the task whose cells have it: {tags: {column: tags, separator: ';'}}")
        return self

    def _tasks(self) -> Tasks:
        if isinstance(self.label, dict):
            return self.label
        return {LABEL: Asked(column=self.label, separator=self.separator)}

    @property
    def _split_column(self) -> str:
        return self.split.column if isinstance(self.split, Folds) else self.split

    def check(self, workspace: Workspace) -> None:
        """A table on this machine is there, and its first row can be read, also for labels of the kinds that are
        said, and names no image in ``data/``."""
        place = self._place(workspace)
        if isinstance(place, Path) and (first := self._first(place)) is not None and first.problem is None:
            self._check_unread(first, place)
            if first.image is None:
                _Roots(place, self.roots, workspace).find(self._ended(first.cells[self.image]))
            with suppress(ValueError):  # of this row alone
                read_cells(first.cells, self._tasks())

    def items(self, workspace: Workspace, limit: int = LARGEST) -> Iterator[Item]:
        """Every row; of images on this machine, size and time are read."""
        place = self._place(workspace)
        roots = _Roots(place, self.roots, workspace)
        splits: dict[str, Split] = {}
        seen: set[str] = set()
        for row in self._rows(place):
            if not seen:
                self._check_unread(row, place)
            if (called := row.cells.get(self._split_column, "")) not in seen and len(seen) < MOST:
                seen.add(called)
                if called not in splits and (says_evaluation(called) or says_labelled(called)):
                    splits = self._splits(place)
            item = self._item(row, roots, limit, splits)
            if item.problem is not None:
                item = replace(item, problem=Problem(item.problem.kind, f"row {row.number}: {item.problem.reason}"))
            yield item
        if isinstance(self.split, Folds) and (unmet := list(self.split.unmet(seen))):
            raise DataError(
                f"ingest.source.split names cells that no row of {place} has in {self.split.column}: {shorten(unmet)}; "
                f"it has {shorten(sorted(filter(None, seen)))}"
            )

    def state(self, workspace: Workspace) -> str:
        """Of the table and of the images that it names on this machine; where it holds them, of the table's file."""
        from tasks.fingerprint import fingerprint

        place = self._place(workspace)
        first = self._first(place)
        within = first is not None and first.image is not None
        return fingerprint(self.model_dump(mode="json"), stamp_of(place) if within else super().state(workspace))

    def _check_unread(self, row: Row, place: Path | str) -> None:
        """Whether a column that tells splits would not be read, and its images be cut anew.

        Raises:
            ConfigurationError: one would not.
        """
        if self.split != "split" or "split" in row.cells:
            return
        for column in UNREAD:
            if (cell := row.cells.get(column)) and split_called(cell):
                raise ConfigurationError(
                    f"{place} has no column split, and {column} holds names of splits ({cell}): write "
                    f"ingest.source.split: {column}; ingest.split.by: hash cuts all of it anew"
                )

    def _ended(self, named: str) -> str:
        return named if named.lower().endswith(self.suffix.lower()) or not named else named + self.suffix

    def _place(self, workspace: Workspace) -> Path | str:
        table = local_path(self.table, workspace)
        if table is not None and not table.is_file():
            what = "is a folder" if table.is_dir() else "does not exist"
            raise DataError(
                f"{table} {what}: ingest.source.table must name a .csv, .tsv, .jsonl, .parquet or .xlsx file"
            )
        return table or self.table

    def _rows(self, place: Path | str) -> Generator[Row]:
        from tasks.ingest.tables.reading import read_rows  # and Arrow, which a configuration is read without

        return read_rows(place, self._wanted(), self.encoding)

    def _first(self, place: Path | str) -> Row | None:
        with closing(self._rows(place)) as rows:
            return next(rows, None)

    def _splits(self, place: Path | str) -> dict[str, Split]:
        """What the names of splits mean beside each other, all rows read once more: few tables need to be."""
        with closing(self._rows(place)) as rows:
            return splits_called({row.cells.get(self._split_column, "") for row in rows})

    def _wanted(self) -> Wanted:
        columns = dict.fromkeys(column for asked in self._tasks().values() for column in asked.columns)
        keys = {self._split_column: "split", self.domain: "domain", self.group: "group"}
        # By their names, not by what was written: a configuration that was saved and read again has all keys.
        named = {column: key for column, key in keys.items() if column != type(self).model_fields[key].default}
        alone = {column for asked in self._tasks().values() if not asked.takes_lists for column in asked.columns}
        unread = [] if named.keys() & {self._split_column} else [name for name in UNREAD if name not in columns]
        return Wanted(self.image, list(columns), [*keys, *unread], named, frozenset(columns) - alone)

    def _item(self, row: Row, roots: _Roots, limit: int, splits: Mapping[str, Split]) -> Item:
        """A row's item; its number is told by whoever asks."""
        if row.problem is not None:
            return Item(f"row {row.number}", problem=Problem("bad_row", row.problem))
        named = self._ended(row.cells[self.image])
        if not named and row.image is None:
            return Item(f"row {row.number}", problem=Problem("bad_row", f"no {self.image}"))
        try:
            said = labels_of(read_cells(row.cells, self._tasks()))
            split = self._split_of(row.cells.get(self._split_column, ""), splits)
        except ValueError as error:
            return Item(named or f"row {row.number}", problem=Problem("bad_row", str(error)))
        domain, group = row.cells.get(self.domain) or None, row.cells.get(self.group) or None
        item = Item(named, **said, split=split, domain=domain, group=group)
        return _found(item, roots) if row.image is None else _kept(item, row, limit)

    def _split_of(self, called: str, splits: Mapping[str, Split]) -> Split | None:
        return self.split.split_of(called) if isinstance(self.split, Folds) else splits.get(called) or _split(called)


def _kept(item: Item, row: Row, limit: int) -> Item:
    """The item of an image that the table itself holds."""
    content = row.image or b""
    path = f"{row.number:07d}.{extension_of(content)}"
    if len(content) > limit:
        return Item(path, problem=Problem("too_large", f"more than {limit:,} bytes (ingest.limits.bytes)"))
    return replace(item, path=path, content=content)


def _found(item: Item, roots: _Roots) -> Item:
    """The item with where its image lies; of images on this machine, size and time are read."""
    place, path, problem = roots.find(item.path)
    if problem is not None:
        return Item(item.path, problem=problem)
    try:
        stamp = stamp_of(Path(place)) if "://" not in place else None
    except OSError as error:
        told = hint(place) or (hint_below(str(roots.base), item.path) if isinstance(roots.base, Path) else "")
        problem = Problem("missing", f"{place}: {error.strerror}{told}")
        return Item(item.path, problem=problem, labels=item.labels, further=item.further)
    return replace(item, path=path, place=place, stamp=stamp)


def _split(name: str) -> Split | None:
    if not name:
        return None
    if (split := split_called(name)) is None:
        raise ValueError(
            f"the split {name!r} is none: train, val, test or pool, or another usual name of these; of folds, or "
            "yes and no, ingest.source.split says which are which: {column: fold, test: 5}"
        )
    return split


class _Roots:
    """The folders and URLs below which rows may name images."""

    def __init__(self, table: Path | str, named: list[str], workspace: Workspace) -> None:
        self.base = table.parent if isinstance(table, Path) else table.rpartition("/")[0]
        self.folders: list[Path] = [self.base.resolve()] if isinstance(self.base, Path) else []
        self.urls = [] if isinstance(self.base, Path) else [f"{self.base}/"]
        own = {*self.folders, *self.urls}
        places: list[Path | str] = []
        for root in named:
            path = local_path(root, workspace)
            places.append(root.rstrip("/") + "/" if path is None else path.resolve())
        self.folders += [place for place in places if isinstance(place, Path)]
        self.filled = {folder for folder in self.folders if is_filled(folder, workspace)}
        self.urls += [place for place in places if isinstance(place, str)]
        self.above = _names_of([place for place in dict.fromkeys(places) if place not in own])

    def find(self, named: str) -> tuple[str, str, Problem | None]:
        """Where a row's image is to be read, and where it belongs in the dataset.

        Raises:
            DataError: it lies below a folder that headstart itself fills.
        """
        named = plain_path(named) if isinstance(self.base, Path) else named
        if "\0" in named or len(named) > 4096:
            return "", "", Problem("bad_row", "its path holds a zero byte or is longer than 4,096 characters")
        if has_drive(named):
            told = f"{named} is on a drive of Windows; write paths relative to the table's folder"
            return "", "", Problem("unsafe_path", told)
        if "://" not in named and isinstance(self.base, Path):
            path, *others = self._places(named)
            if others:
                told = f"{named} lies below several folders of ingest.source.roots: write paths that tell which"
                return "", "", Problem("bad_row", told)
            real = Path(os.path.realpath(path))  # follows links and '..', and says nothing where links lead in circles
            # A link to an image has a name of its own.
            shown = Path(os.path.realpath(path.parent), path.name) if os.path.islink(path) else real
            for folder in self.folders:
                if real.is_relative_to(folder):
                    if folder in self.filled:
                        raise DataError(f"{named} lies in {folder}, {FILLED}")
                    kept = shown if shown.is_relative_to(folder) else real
                    return str(real), self.above.get(folder, "") + kept.relative_to(folder).as_posix(), None
            return "", "", Problem("unsafe_path", f"{named} leads out of the table's folder and ingest.source.roots")
        url = named if "://" in named else f"{self.base}/{named}"
        for root in self.urls:
            if url.startswith(root) and ".." not in PurePosixPath(unquote(urlsplit(url).path)).parts:
                return url, self.above.get(root, "") + url.removeprefix(root).replace("?", "-"), None
        return "", "", Problem("unsafe_path", f"{named} lies below no URL of ingest.source.roots")

    def _places(self, named: str) -> list[Path]:
        """Where on this machine a path leads to something: below the table's folder or, where it does not, each root;
        below the former where nothing is there at all."""
        assert isinstance(self.base, Path)
        if named.startswith("/"):
            return [_spelt(Path(named))]
        own = _spelt(self.base / named, self.base / slashed(named))
        if os.path.lexists(own):
            return [own]
        others = (_spelt(folder / named, folder / slashed(named)) for folder in self.folders[1:])
        return [path for path in others if os.path.lexists(path)] or [own]


def _spelt(*paths: Path) -> Path:
    """The first of several paths that is there, be it in another form of Unicode; else the last."""
    for path in paths:
        if os.path.lexists(path):
            return path
    path = paths[-1]
    return path if str(path).isascii() else in_its_form(path)


def _names_of(roots: list[Path | str]) -> dict[Path | str, str]:
    """The folder of the dataset, with a slash at its end, in which the images below each of several roots are: two may
    hold different images of one name. Below a single root, names are as they are there."""
    if len(roots) < 2:
        return {}
    names = [root.name if isinstance(root, Path) else _last_part(root) for root in roots]
    return {
        root: f"{name}/" if name and names.count(name) == 1 else f"{number}-{name}/"
        for number, (root, name) in enumerate(zip(roots, names, strict=True), 1)
    }


def _last_part(url: str) -> str:
    """What a URL's folder is called, or its host."""
    parts = urlsplit(url)
    return parts.path.rstrip("/").rpartition("/")[2] or parts.hostname or ""
