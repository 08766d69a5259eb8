"""What every source is: a section of the configuration that yields items."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar
from urllib.parse import unquote

from pydantic import AfterValidator

from tasks.errors import ConfigurationError
from tasks.fingerprint import RunningFingerprint
from tasks.ingest.kinds import Problem
from tasks.ingest.labels import Asked, Label, Tasks, targets_of
from tasks.limits import ALLOWED
from tasks.section import Section
from tasks.target import LABEL, Target
from tasks.workspace import Workspace

LARGEST = ALLOWED.bytes
"""Bytes of one file beyond which it is no photo; ``ingest.limits.bytes`` sets it."""

IN_CLASS_FOLDERS = "images in class folders (class/*.jpg or train/class/*.jpg)"
"""What sources expect whose folders are labels."""

FILLED = "what headstart itself fills: keep your images in a folder of their own"
"""What is told of a place that no source may name; see `is_filled`."""


def _read_encoding(name: str) -> str:
    try:
        "x".encode(name)
    except (LookupError, ValueError) as error:
        raise ValueError(f"Python knows no encoding {name!r}; windows-1252, utf-16 and shift_jis are some") from error
    return name


Encoding = Annotated[str, AfterValidator(_read_encoding)]
"""Name of an encoding."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a source holds: an image as a rule, and whatever else lies there.

    Attributes:
        path: where it belongs in the dataset, with slashes, relative; for a problem, what the source calls it.
        content: the file's bytes, or None where ``place`` says where to read them.
        place: path or URL to read from.
        stamp: changes when the content does (size and time, an ETag); None where that cannot be told.
        problem: why this cannot be an image of the dataset.
        labels: by the leading task: a class, or several, or the number; None for an unlabelled image.
        further: labels by the names of further tasks, of those that it has.
        split, domain, group: where the source gives them.
        layout: set where label, split, domain and group follow from the path; see `tasks.ingest.layout`.
    """

    path: str
    content: bytes | None = None
    place: str | None = None
    stamp: str | None = None
    problem: Problem | None = None
    labels: Label | None = None
    further: Mapping[str, Label] = field(default_factory=dict)
    split: str | None = None
    domain: str | None = None
    group: str | None = None
    layout: str | None = None


class Source(Section):
    """Where images come from.

    A new source is a file in this folder with one subclass, and its name in ``sources/__init__.py``. The first
    field is the key that tells it apart in a configuration; `items` does the work.
    """

    remembers: ClassVar[bool] = True
    """Whether `items` costs metadata only, so that asking whether anything changed is cheap."""

    @classmethod
    def key(cls) -> str:
        """The key that tells this source apart: ``folder`` of ``source: {folder: photos}``."""
        return next(iter(cls.model_fields))

    expects: ClassVar[str] = "labelled images"
    """What it is to hold, for whoever finds nothing of it."""

    def __str__(self) -> str:
        return f"{self.key()}:{getattr(self, self.key())}"

    def check(self, workspace: Workspace) -> None:
        """Find out what can be known at once of whether this source is there; no network is asked.

        Raises:
            DataError: it is not.
            ConfigurationError: its keys say what cannot be.
        """

    def items(self, workspace: Workspace, limit: int = LARGEST) -> Iterator[Item]:
        """Everything that the source holds, one after another; nothing of more than ``limit`` bytes is read whole.

        Raises:
            DataError: the source is missing or damaged as a whole. What is the matter with one item is the
                item's ``problem``.
        """
        raise NotImplementedError

    def total(self, workspace: Workspace) -> int:
        """How many items to expect, for progress bars; 0 where only reading would tell."""
        return 0

    def about_labels(self, workspace: Workspace) -> str:
        """Where its labels are looked for and what there is in their place, for whoever finds none; empty where the
        place is known to be there."""
        return ""

    tells_numbers: ClassVar[bool] = False
    """Whether its tasks can be named, and so be numbers."""

    def targets(self) -> tuple[Target, ...]:
        """The tasks that it tells of, the leading one first; their classes are not known before it is read."""
        return targets_of(self._tasks())

    def _tasks(self) -> Tasks:
        """Where each of them stands; by default there is one, a class, without a name."""
        return {LABEL: Asked(column="")}

    def is_multi_label(self) -> bool:
        """Whether an image may have several labels of the leading task, or none of them."""
        return self.targets()[0].kind == "labels"

    def state(self, workspace: Workspace) -> str:
        """Fingerprint that changes when the source does; costs metadata only."""
        running = RunningFingerprint(str(self))
        if self.remembers:
            for item in self.items(workspace):
                further = [dict(item.further)] if item.further else []
                running.add(item.path, item.stamp, item.labels, item.split, item.domain, item.group, *further)
        return running.value


def local_path(name: str, workspace: Workspace) -> Path | None:
    """The path that a name in a configuration means on this machine; None for a URL of somewhere else.

    Raises:
        ConfigurationError: URLs of this scheme are not read.
    """
    scheme, separator, rest = name.partition("://")
    if not separator:
        return workspace.resolve(name)
    if scheme == "file":
        return Path(unquote(rest))
    if scheme not in REMOTE:
        raise ConfigurationError(f"{name}: URLs of {scheme}:// are not read; known: {', '.join(REMOTE)}, file")
    return None


def is_filled(folder: Path, workspace: Workspace) -> bool:
    """Whether a folder on this machine is ``data/``, or lies in it. What lies there as a version has it counts as that
    version's, and goes with it."""
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(workspace.data))


REMOTE = ("s3", "gs", "gcs", "az", "abfs", "http", "https", "sftp", "ssh", "hdfs", "memory")
"""Schemes that are handed to fsspec. Others, such as its chains and caches, may run programs or write files."""
