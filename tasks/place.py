"""Files and folders that a record names."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer

from tasks.workspace import Workspace


def _written(path: Path) -> str:
    root = Workspace.find().root
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _read(path: Path) -> Path:
    return Workspace.find().root / path


Place = Annotated[Path, PlainSerializer(_written, when_used="json"), AfterValidator(_read)]
"""A file or folder. Kept as JSON it begins at the workspace's root, if it lies in there, so that a workspace that was
moved finds its own, and a copy never the other's."""

ABOUT, REPAIRED = "space.json", "repaired"
"""In a folder of features: what it says of itself, touched when it is used; the mark that something was taken out."""


def note_used(space: Path) -> None:
    """Have a folder of features count as used just now."""
    with suppress(OSError):  # another user's, or moved aside meanwhile
        os.utime(space / ABOUT)


def note_repaired(space: Path) -> None:
    """Note that something has been taken out of a folder of features just now."""
    (mark := space / REPAIRED).touch()
    now = time.time_ns()
    os.utime(mark, ns=(now, now))  # the file system's own clock is some milliseconds behind


def was_repaired(space: Path, since: float) -> bool:
    """Whether something has been taken out of a folder of features since a time, seconds since the epoch."""
    mark = space / REPAIRED
    return mark.exists() and mark.stat().st_mtime >= since
