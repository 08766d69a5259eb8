"""A table that lists images, or holds them."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from pydantic import Field, model_validator

from tasks.errors import ConfigurationError, DataError
from tasks.ingest.formats import extension_of
from tasks.ingest.kinds import Problem
from tasks.ingest.labels import AnyLabel, Asked, Tasks, labels_of, read_cells
from tasks.ingest.naming import says_evaluation, says_labelled, split_called, splits_called
from tasks.ingest.nearby import hint, hint_below
from tasks.ingest.sources.base import LARGEST, Encoding, Item, Source, local_path
from tasks.ingest.sources.roots import Roots
from tasks.ingest.sources.several import folders_above, is_pattern, places_of, splits_of, stem_of
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
    """Path or URL of the file: .csv, .tsv, .json, .jsonl, also compressed, .parquet or .xlsx; of several with braces or
    wildcards, ``{train,test}.csv``, ``*/labels.csv``."""
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
        """Tables on this machine are there, and the first row of each can be read, also for labels of the kinds that
        are said, and names no image in ``data/``."""
        for place in self._places(workspace):
            if isinstance(place, Path) and (first := self._first(place)) is not None and first.problem is None:
                self._check_unread(place)
                if first.image is None:
                    Roots(place, self.roots, workspace).find(self._ended(first.cells[self.image]))
                with suppress(ValueError):  # of this row alone
                    read_cells(first.cells, self._tasks())

    def items(self, workspace: Workspace, limit: int = LARGEST) -> Iterator[Item]:
        """Every row; of images on this machine, size and time are read. One of several tables that is called as a split
        is belongs to it (``train.csv``), or whose folder is (``train/labels.csv``).

        Raises:
            DataError: there is no table, one cannot be read, or is called as another split than its folder.
        """
        places = self._places(workspace)
        above = folders_above(places)
        called = splits_of(list(map(str, places)), "ingest.source.table") if len(places) > 1 else {}
        seen: set[str] = set()
        for place in places:
            roots = Roots(place, self.roots, workspace, above[place])
            named = above[place] + str(place).rpartition("/")[2] if is_pattern(self.table) else ""
            for item in self._of_table(place, named, roots, limit, seen):
                split = item.split or (called.get(str(place)) if item.problem is None else None)
                yield replace(item, split=split) if split != item.split else item
        if isinstance(self.split, Folds) and (unmet := list(self.split.unmet(seen))):
            raise DataError(
                f"ingest.source.split names cells that no row of {self.table} has in {self.split.column}: "
                f"{shorten(unmet)}; it has {shorten(sorted(filter(None, seen)))}"
            )

    def _of_table(self, place: Path | str, named: str, roots: Roots, limit: int, seen: set[str]) -> Iterator[Item]:
        """The rows of one table.

        Args:
            named: what it is called among several; empty where there is one.
            seen: what cells of splits there are is added to it.
        """
        self._check_unread(place)
        cells: set[str] = set()
        splits: dict[str, Split] = {}
        for row in self._rows(place):
            if (cell := row.cells.get(self._split_column, "")) not in cells and len(cells) < MOST:
                cells.add(cell)
                if cell not in splits and (says_evaluation(cell) or says_labelled(cell)):
                    splits = self._splits(place)
            item = self._item(row, roots, limit, splits)
            if item.problem is not None:
                told = f"{named}{', ' if named else ''}row {row.number}: {item.problem.reason}"
                item = replace(item, problem=Problem(item.problem.kind, told))
            elif row.image is not None and named:
                item = replace(item, path=f"{stem_of(named)}/{item.path}")
            yield item
        seen |= cells

    def state(self, workspace: Workspace) -> str:
        """Of tables and of the images that they name on this machine; where they hold them, of the tables' files."""
        from tasks.fingerprint import fingerprint

        places = self._places(workspace)
        first = self._first(places[0])
        within = first is not None and first.image is not None
        stamps = [stamp_of(place) for place in places] if within else super().state(workspace)
        return fingerprint(self.model_dump(mode="json"), stamps[0] if within and len(places) == 1 else stamps)

    def _check_unread(self, place: Path | str) -> None:
        """Whether a column that tells splits would not be read, and its images be cut anew.

        Raises:
            ConfigurationError: one would not.
        """
        if self.split != "split":
            return
        first = None
        with suppress(ConfigurationError):  # of columns that nobody asked for
            first = self._first(place, UNREAD)
        if first is None or "split" in first.cells:
            return
        for column in UNREAD:
            if (cell := first.cells.get(column)) and split_called(cell):
                raise ConfigurationError(
                    f"{place} has no column split, and {column} holds names of splits ({cell}): write "
                    f"ingest.source.split: {column}; ingest.split.by: hash cuts all of it anew"
                )

    def _ended(self, named: str) -> str:
        return named if named.lower().endswith(self.suffix.lower()) or not named else named + self.suffix

    def _places(self, workspace: Workspace) -> list[Path | str]:
        """Where the tables are, in the order of their names.

        Raises:
            DataError: there is none.
        """

        def one(name: str) -> Path | str:
            table = local_path(name, workspace)
            if table is not None and not table.is_file():
                what = "is a folder" if table.is_dir() else "does not exist"
                raise DataError(
                    f"{table} {what}: ingest.source.table must name a .csv, .tsv, .jsonl, .parquet or .xlsx file"
                )
            return table or name

        if found := places_of(self.table, workspace, one):
            return found
        raise DataError(f"ingest.source.table: no table is called {self.table}")

    def _rows(self, place: Path | str, more: Sequence[str] = ()) -> Generator[Row]:
        from tasks.ingest.tables.reading import read_rows  # and Arrow, which a configuration is read without

        return read_rows(place, self._wanted(more), self.encoding)

    def _first(self, place: Path | str, more: Sequence[str] = ()) -> Row | None:
        """The first row, also of further columns."""
        with closing(self._rows(place, more)) as rows:
            return next(rows, None)

    def _splits(self, place: Path | str) -> dict[str, Split]:
        """What the names of splits mean beside each other, all rows read once more: few tables need to be."""
        with closing(self._rows(place)) as rows:
            return splits_called({row.cells.get(self._split_column, "") for row in rows})

    def _wanted(self, more: Sequence[str] = ()) -> Wanted:
        columns = dict.fromkeys(column for asked in self._tasks().values() for column in asked.columns)
        keys = {self._split_column: "split", self.domain: "domain", self.group: "group"}
        # By their names, not by what was written: a configuration that was saved and read again has all keys.
        named = {column: key for column, key in keys.items() if column != type(self).model_fields[key].default}
        alone = {column for asked in self._tasks().values() if not asked.takes_lists for column in asked.columns}
        optional = [*keys, *(name for name in more if name not in columns)]
        return Wanted(self.image, list(columns), optional, named, frozenset(columns) - alone)

    def _item(self, row: Row, roots: Roots, limit: int, splits: Mapping[str, Split]) -> Item:
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


def _found(item: Item, roots: Roots) -> Item:
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
