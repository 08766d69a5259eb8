"""WebDataset shards: tar files in which the members of a sample share their name up to the first dot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import model_validator

from tasks.errors import DataError
from tasks.fingerprint import fingerprint
from tasks.ingest.kinds import Problem
from tasks.ingest.labels import AnyLabel, Asked, Tasks, check_single_columns, labels_of, read_value
from tasks.ingest.sources.archive import archive_place, members
from tasks.ingest.sources.base import LARGEST, Item, Source
from tasks.ingest.sources.several import places_of, splits_of
from tasks.ingest.storage import stamp_of
from tasks.ingest.tables.cells import text_of
from tasks.target import LABEL
from tasks.wording import shorten
from tasks.workspace import Workspace

IMAGES = frozenset(["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "pbm"])
"""What the format's image members are called; ``pyd`` and ``pickle`` members are never opened."""


class WebDatasetSource(Source):
    """Shards of the WebDataset format."""

    webdataset: str
    """Path or URL of the shards, with braces or wildcards: ``shards/train-{000..127}.tar``, ``s3://b/val-*.tar``."""
    label: AnyLabel = "cls"
    """Member that holds the label; ``json.NAME`` reads a key of the member ``json``. A list there gives several
    labels. Members by the names of tasks give several tasks, or numbers: ``{species: cls, age: {column: json.age, kind:
    number}}``; lists are of ``kind: labels``."""
    multi_label: bool = False
    """Whether an image may have several labels."""
    remembers: ClassVar[bool] = False

    tells_numbers: ClassVar[bool] = True

    @model_validator(mode="after")
    def _each_value_is_one_member_s(self) -> WebDatasetSource:
        check_single_columns(self.label, self.multi_label)
        return self

    def _tasks(self) -> Tasks:
        if isinstance(self.label, dict):
            return self.label
        return {LABEL: Asked(column=self.label, kind="labels" if self.multi_label else "class")}

    def check(self, workspace: Workspace) -> None:
        """Shards on this machine are there."""
        if "://" not in self.webdataset or self.webdataset.startswith("file://"):
            _shards(self.webdataset, workspace)

    def items(self, workspace: Workspace, limit: int = LARGEST) -> Iterator[Item]:
        """Every sample of every shard. A shard that is called as a split is belongs to it (``train-000``), or whose
        folder is (``train/000``).

        Raises:
            DataError: there is no shard, one is damaged, or is called as another split than its folder.
        """
        shards = _shards(self.webdataset, workspace)
        names = [str(shard).rsplit("/", 1)[-1].removesuffix(".tar") for shard in shards]
        splits = splits_of(list(map(str, shards)), "ingest.source.webdataset")
        for number, (shard, name) in enumerate(zip(shards, names, strict=True)):
            above = f"{name}/" if len(shards) > 1 else ""
            above = f"{number:05d}-{above}" if names.count(name) > 1 else above
            for key, parts in _samples(shard, limit):
                yield self._item(f"{above}{key}", parts, splits.get(str(shard)))

    def about_labels(self, workspace: Workspace) -> str:
        """The members of the first sample."""
        for shard in _shards(self.webdataset, workspace):
            for key, parts in _samples(shard, LARGEST):
                asked = shorten(str(each.column) for each in self._tasks().values())
                return (
                    f"ingest.source.label names the member {asked}; the sample {key} has {shorten(sorted(parts), 12)}"
                )
        return ""

    def state(self, workspace: Workspace) -> str:
        """Sizes and times of the shards."""
        shards = _shards(self.webdataset, workspace)
        label = self.model_dump(mode="json")["label"]
        return fingerprint(str(self), label, [(str(shard), stamp_of(shard)) for shard in shards])

    def _item(self, path: str, parts: dict[str, bytes | Problem], split: str | None) -> Item:
        problem = next((part for part in parts.values() if isinstance(part, Problem)), None)
        images = [extension for extension in parts if extension.rpartition(".")[2] in IMAGES]
        if problem is None and len(images) != 1:
            told = shorten(sorted(parts), 12) or "nothing that may be opened"
            problem = Problem("bad_row", f"the sample has {len(images)} images where one is expected: {told}")
        if problem is not None:
            return Item(path, problem=problem)
        try:
            said = {name: read_value(each, _labels(parts, str(each.column))) for name, each in self._tasks().items()}
        except (ValueError, TypeError, RecursionError) as error:
            return Item(path, problem=Problem("bad_row", f"its label cannot be read: {error}"))
        content: Any = parts[images[0]]
        return Item(f"{path}.{images[0]}", content=content, **labels_of(said), split=split)


def _labels(parts: dict[str, bytes | Problem], named: str) -> tuple[str, ...] | None:
    member, _, key = (named, "", "") if named in parts else named.partition(".")
    found: Any = parts.get(member)
    if found is None:
        return None
    text = found.decode()
    value = json.loads(text) if member == "json" else text.strip()
    if member == "json":
        if not isinstance(value, dict):
            raise ValueError("its JSON is no object")
        value = value.get(key)
    if value is None:
        return None
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str | int | float) for entry in values):
        raise ValueError(f"{key} holds neither text nor a number, nor a list of these")
    told = tuple(text for entry in values if (text := text_of(entry)))
    return told if told or isinstance(value, list) else None


def _samples(shard: Path | str, limit: int) -> Iterator[tuple[str, dict[str, bytes | Problem]]]:
    """Neighbouring members of one key; the format promises that they stand together."""
    current: str | None = None
    parts: dict[str, bytes | Problem] = {}
    for name, content, problem in members(shard, limit):
        folder, _, file = name.rpartition("/")
        stem, _, extension = file.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        if key != current and current is not None:
            yield current, parts
            parts = {}
        current = key
        extension = extension.lower()
        if extension in parts:
            problem = Problem(
                "bad_row", f"several members are called {key}.{extension}: give each sample a key of its own"
            )
        if extension.rpartition(".")[2] not in ("pyd", "pickle", "pkl", "pth", "pt"):
            parts[extension] = problem or content or b""
    if current is not None:
        yield current, parts


def _shards(pattern: str, workspace: Workspace) -> list[Path | str]:
    if found := places_of(pattern, workspace, lambda name: archive_place(name, workspace, "webdataset")):
        return found
    raise DataError(f"ingest.source.webdataset: no shard is called {pattern}")
