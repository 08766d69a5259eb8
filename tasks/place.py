"""Files and folders that a record names."""

from __future__ import annotations

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
