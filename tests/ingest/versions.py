"""Versions of a few small files, in and out of a workspace."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from dvc.config import Config

from tasks.ingest.checkout import restore_version
from tasks.ingest.objects import keep_file, object_path
from tasks.ingest.repository import object_store
from tasks.ingest.versioning import Entry, Version, write_version
from tasks.progress import watched_by
from tasks.workspace import Workspace

OLD = {"a/1": b"one", "a/2": b"two", "b/c/3": b"three", "top": b"top"}
NEW = {"a/1": b"one", "a/2": b"changed", "b/4": b"four"}


def dvc(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def configure(workspace: Workspace, **sections: dict[str, object]) -> None:
    """Settle keys of the repository's configuration, as ``dvc config`` and ``dvc remote add`` do."""
    with Config(str(workspace.root / ".dvc")).edit("repo") as config:
        for name, keys in sections.items():
            config[name] |= keys


def files(folder: Path) -> dict[str, bytes]:
    """Content by path of all files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def objects(store: Path) -> dict[str, bytes]:
    """Content by name of all that a store holds."""
    return {path.parent.name + path.name: path.read_bytes() for path in store.glob("??/*")}


def out(dvc_file: Path) -> dict[str, object]:
    return yaml.safe_load(dvc_file.read_text())["outs"][0]


def version_of(contents: dict[str, bytes], workspace: Workspace) -> Version:
    """Put a version of these files into the store."""
    store = object_store(workspace)
    entries = []
    for path, content in sorted(contents.items()):
        (workspace.root / "one file").write_bytes(content)
        entries.append(Entry(path, keep_file(workspace.root / "one file", store), len(content)))
        (workspace.root / "one file").unlink()
    return write_version(entries, store)


def check_out(contents: dict[str, bytes], workspace: Workspace) -> Version:
    version = version_of(contents, workspace)
    assert restore_version(version.name, workspace) == version
    return version


class Told:
    """Keeps what is told to whoever watches."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begin(self, what: str, total: int, unit: str) -> int:
        return 0

    def advance(self, bar: int, count: int) -> None:
        pass

    def end(self, bar: int) -> None:
        pass

    def tell(self, line: str) -> None:
        self.lines.append(line)


def told(work: Callable[[], object]) -> list[str]:
    """What some work tells whoever watches."""
    watcher = Told()
    with watched_by(watcher):
        work()
    return watcher.lines


def damage(workspace: Workspace, content: bytes, by: bytes = b"damaged") -> Path:
    """Overwrite the object of a content in place, as whoever edits a hard link does; returns its path."""
    path = object_path(object_store(workspace), hashlib.md5(content).hexdigest())
    path.chmod(0o644)
    path.write_bytes(by)
    path.chmod(0o444)
    return path


def edit(path: Path, content: bytes) -> None:
    """Save a file as editors do."""
    path.with_name("saving").write_bytes(content)
    path.with_name("saving").replace(path)
