"""Datasets as Hugging Face's `datasets` library lays them out: Parquet files, image folders, saved datasets."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from pydantic import model_validator

from tasks.errors import ConfigurationError, DataError
from tasks.fingerprint import RunningFingerprint
from tasks.ingest.formats import extension_of
from tasks.ingest.kinds import Problem
from tasks.ingest.labels import (
    AnyLabel,
    Asked,
    Tasks,
    check_single_columns,
    labels_of,
    read_value,
)
from tasks.ingest.naming import splits_called
from tasks.ingest.sources.base import LARGEST, Item, Source
from tasks.ingest.storage import walk
from tasks.ingest.tables.cells import class_name, text_of
from tasks.target import LABEL
from tasks.wording import shorten
from tasks.workspace import Workspace


class HuggingFaceSource(Source):
    """A dataset of the library `datasets` (pip install 'headstart[huggingface]'): a folder on this machine, or a name
    on the hub."""

    huggingface: str
    """Folder (Parquet files, an image folder, or what ``save_to_disk`` wrote), or a name such as
    ``uoft-cs/cifar10``."""
    subset: str | None = None
    """Configuration of the dataset, where it has several."""
    revision: str | None = None
    """Commit or tag on the hub; name one, so that a run means the same tomorrow."""
    image: str | None = None
    """Column of the images; where it is the only one, it need not be named."""
    label: AnyLabel | None = None
    """Column of the labels; where there is one column of classes, it need not be named. Columns by the names of tasks
    give several tasks, or numbers, as of a table; lists are of ``kind: labels``."""
    domain: str | None = None
    """Column of the domains."""
    group: str | None = None
    """Column of the groups."""
    multi_label: bool = False
    """Whether the labels are lists."""
    remembers: ClassVar[bool] = False
    tells_numbers: ClassVar[bool] = True

    @model_validator(mode="after")
    def _each_value_is_one_column_s(self) -> HuggingFaceSource:
        check_single_columns(self.label, self.multi_label)
        return self

    def _tasks(self, column: str = "") -> Tasks:
        """The tasks, where a label without a name stands in a column."""
        if isinstance(self.label, dict):
            return self.label
        return {LABEL: Asked(column=column, kind="labels" if self.multi_label else "class")}

    def check(self, workspace: Workspace) -> None:
        """The library is installed."""
        if find_spec("datasets") is None:
            raise DataError("the source huggingface needs the package datasets: pip install 'headstart[huggingface]'")

    def items(self, workspace: Workspace, limit: int = LARGEST) -> Iterator[Item]:
        """Every row of every split, read as a stream; names of classes instead of their numbers."""
        splits = self._splits(workspace)
        columns = list(dict.fromkeys(column for rows in splits.values() for column in rows.features or {}))
        called = splits_called(name.split("[")[0] for name in splits)
        for name, rows in splits.items():
            split = called.get(name.split("[")[0])
            problem = None
            if split is None and len(splits) > 1:
                problem = Problem("no_split", f"its split {name!r} is none of train, val and test")
            for item in self._rows(name, rows, workspace, columns):
                yield replace(item, split=split, problem=item.problem or problem)

    def state(self, workspace: Workspace) -> str:
        """Sizes and times of a folder's files; a name on the hub is taken to mean the same while its revision does."""
        running = RunningFingerprint(self.model_dump(mode="json"))
        folder = workspace.resolve(self.huggingface)
        if folder.is_dir():
            for entry in walk(folder):
                running.add(entry.relative, entry.stamp)
        return running.value

    def _splits(self, workspace: Workspace) -> dict[str, Any]:
        self.check(workspace)
        import datasets

        datasets.disable_progress_bars()
        folder = workspace.resolve(self.huggingface)
        try:
            if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
                loaded: Any = datasets.load_from_disk(str(folder))
            else:
                name = str(folder) if folder.is_dir() else self.huggingface
                loaded = datasets.load_dataset(name, self.subset, revision=self.revision, streaming=True)
        except Exception as error:  # the hub, the network and every file format fail in their own ways
            raise self._told(error, "loaded") from error
        return dict(loaded) if isinstance(loaded, dict) else {"": loaded}

    def _read(self, rows: Any) -> Iterator[dict[str, Any]]:
        try:
            yield from rows
        except Exception as error:
            raise self._told(error, "read to its end") from error

    def _told(self, error: Exception, what: str) -> DataError:
        told = " ".join(str(error).split())[:300]
        return DataError(f"ingest.source.huggingface: {self.huggingface} cannot be {what}: {told}")

    def about_labels(self, workspace: Workspace) -> str:
        """The columns, where none is named."""
        if self.label is not None:
            return ""
        columns = {column for rows in self._splits(workspace).values() for column in rows.features or {}}
        return f"ingest.source.label names the column of labels; there are {shorten(sorted(columns), 12)}"

    def _check_columns(self, image: str, here: Collection[str], anywhere: Collection[str]) -> None:
        """Whether the columns that the configuration names are there; of a test split, that of the labels may not be.

        Raises:
            ConfigurationError: one is not.
        """
        label = self.label if isinstance(self.label, dict) else {LABEL: Asked(column=str(self.label))}
        labels = [] if self.label is None else [str(asked.column) for asked in label.values()]
        told = [(key, column, anywhere) for key, column in (("domain", self.domain), ("group", self.group)) if column]
        for key, column, there in [("image", image, here), *told, *(("label", each, anywhere) for each in labels)]:
            if column not in there:
                raise ConfigurationError(f"ingest.source.{key}: no column {column!r}; there are {shorten(there, 12)}")

    def _rows(self, split: str, rows: Any, workspace: Workspace, columns: Collection[str]) -> Iterator[Item]:
        import datasets

        features = rows.features or {}
        image = self.image or _only(features, datasets.Image, "image")
        one = self.label if isinstance(self.label, str) else None
        named = isinstance(self.label, dict)
        tasks = self._tasks("" if named else one or _only(features, datasets.ClassLabel, "label", default="label"))
        told = [*(str(asked.column) for asked in tasks.values()), self.domain, self.group]
        names = {column: _class_names(features.get(column)) for column in told if column is not None}
        self._check_columns(image, features, columns)
        # The bytes as they are: decoding happens in one place.
        rows = rows.cast_column(image, datasets.Image(decode=False))
        folder = workspace.resolve(self.huggingface)
        for index, row in enumerate(self._read(rows)):
            entry = row[image] or {}
            content, place = entry.get("bytes"), entry.get("path")
            path = f"{split or 'all'}/{index:07d}"
            if content is None and place is None:
                yield Item(path, problem=Problem("missing", "the row has no image"))
                continue
            if content is None:
                place = os.path.normpath(folder / str(place))
                if not place.startswith(f"{folder}{os.sep}") or not os.path.isfile(place):
                    reason = f"the row names {entry['path']}, which is no file of the dataset's folder"
                    yield Item(path, problem=Problem("unsafe_path", reason))
                    continue
            suffix = Path(str(place)).suffix.lstrip(".") if content is None else extension_of(content, str(place or ""))
            try:
                said = {
                    name: read_value(asked, _labels(row, str(asked.column), names, asked.settled == "number"))
                    for name, asked in tasks.items()
                }
                domain, group = _text(row, self.domain, names), _text(row, self.group, names)
            except ValueError as error:
                yield Item(path, problem=Problem("bad_row", str(error)))
                continue
            yield Item(
                f"{path}.{suffix}",
                content=content,
                place=None if content is not None else place,
                **labels_of(said),
                domain=domain,
                group=group,
            )


def _only(features: Any, kind: type, key: str, default: str | None = None) -> str:
    found = [name for name, feature in features.items() if isinstance(feature, kind)]
    if len(found) == 1:
        return found[0]
    if default is not None and not found:
        return default
    raise ConfigurationError(
        f"ingest.source.{key}: name the column of the {key}s; there are {shorten(features, 12) or 'none'}"
    )


def _class_names(feature: Any) -> list[str] | None:
    """What the classes of a column are called, or of its lists."""
    return getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)


def _labels(
    row: Mapping[str, Any], column: str, names: Mapping[str, Sequence[str] | None], is_number: bool
) -> tuple[str, ...] | None:
    """What a row's column says, as text; None where it says nothing.

    Raises:
        ValueError: it holds what is no label.
    """
    value, classes = row.get(column), names[column]
    if value == -1 and not is_number:  # the library's sign for a missing class
        return None
    try:
        texts = [
            class_name(entry, classes) if classes else text_of(entry)
            for entry in (value if isinstance(value, list) else [value])
        ]
    except ValueError as error:
        raise ValueError(f"column {column} {error}") from None
    told = tuple(text for text in texts if text)
    return told if told or isinstance(value, list) else None


def _text(row: Mapping[str, Any], column: str | None, names: Mapping[str, Sequence[str] | None]) -> str | None:
    """The text of a row's domain or group, of one that is counted its name; None where it has none.

    Raises:
        ValueError: the cell holds several values, or a number that no name has.
    """
    if not column:
        return None
    value, called = row.get(column), names[column]
    try:
        return (class_name(value, called) if called else text_of(value)) or None
    except ValueError as error:
        raise ValueError(f"column {column} {error}") from None
