"""A workspace that was renamed, moved or copied: its MLflow store learns where it stands now.

MLflow keeps the addresses of artifacts absolute: a store that does not know of the move looks for models in the old
place, and writes new ones there. Where that place was, it tells itself: headstart's experiments lie in
``mlruns/artifacts/`` of their workspace.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from flows.runs import leases
from tasks.errors import StorageError
from tasks.owner import Owner
from tasks.workspace import Workspace

PATIENCE = 60.0
"""Seconds that another process may hold the store."""

ADDRESSES = (
    ("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"),
    ("model_versions", "source"), ("model_versions", "storage_location"),
)  # fmt: skip
UPDATES = (
    *(f"UPDATE {table} SET {column} = now({column}) WHERE {column} <> now({column})" for table, column in ADDRESSES),
    "UPDATE trace_tags SET value = now(value) WHERE key = 'mlflow.artifactLocation'",
    "UPDATE datasets SET dataset_source = json_set(dataset_source, '$.uri', now(json_extract(dataset_source, '$.uri')))"
    " WHERE json_valid(dataset_source) AND json_extract(dataset_source, '$.uri') IS NOT NULL",
)


def relocate(workspace: Workspace) -> list[Path]:
    """Make addresses below the workspace's former places ones below where it stands; in one transaction, which other
    processes see whole or not at all. A store that is not the workspace's own, and what lay elsewhere, stay; so do all
    while a run is at work on another machine or in a container, which may have the workspace under another name.

    Returns:
        The former places; empty where the workspace has not moved.

    Raises:
        StorageError: the store cannot be read, or names another place and cannot be written.
    """
    return [] if _at_work_elsewhere(workspace) else _told_whole(_follow, workspace)


def check_place(workspace: Workspace) -> None:
    """Have files of a run that begins go to where the workspace stands; no command does where Prefect calls a flow.

    Raises:
        StorageError: a run at work elsewhere has the workspace under another name, or as `relocate`.
    """
    relocate(workspace)
    if why := put_off(workspace):
        raise StorageError(f"{why}. Run this when that one is over, or give the folder one name in both places")


def put_off(workspace: Workspace) -> str:
    """Why addresses lead to another place for now; empty where they do not.

    Raises:
        StorageError: the store cannot be read.
    """
    others = _at_work_elsewhere(workspace)
    former = _told_whole(_look, workspace) if others else []
    if not former:
        return ""
    return (
        f"process {others[0].pid} on {others[0].host} is at work in this workspace, which is {former[0]} there and "
        f"{workspace.root} here: until it is over, files of runs and models are looked for there"
    )


def _at_work_elsewhere(workspace: Workspace) -> list[Owner]:
    return [lease.owner for lease in leases.live(workspace) if lease.owner.is_elsewhere]


def _told_whole(look: Callable[[Path, Workspace], set[Path]], workspace: Workspace) -> list[Path]:
    """What is found in the workspace's own store, if it has one; what SQLite raises as one line."""
    path = workspace.own_store
    if path is None or not path.is_file():
        return []
    try:
        return sorted(look(path, workspace))
    except sqlite3.DatabaseError as error:
        if "no such table" in str(error):  # MLflow is about to make it
            return []
        raise StorageError(
            f"{path} cannot be read, or corrected after a move of the workspace ({error}): end what holds the file, "
            "make it writable, and run the command again"
        ) from error


def _opened(path: Path) -> closing[sqlite3.Connection]:
    uri = f"{path.as_uri()}?mode=rw"
    return closing(sqlite3.connect(uri, timeout=PATIENCE, isolation_level=None, uri=True))


def _look(path: Path, workspace: Workspace) -> set[Path]:
    with _opened(path) as store:
        return _former_places(store, workspace)


def _follow(path: Path, workspace: Workspace) -> set[Path]:
    with _opened(path) as store:
        if not _former_places(store, workspace):
            return set()
        with store:
            store.execute("BEGIN IMMEDIATE")
            former = _former_places(store, workspace)  # none, where another process was faster
            store.create_function("now", 1, lambda address: _now(address, former, workspace.root))
            for update in UPDATES if former else ():
                store.execute(update)
    return former


def _former_places(store: sqlite3.Connection, workspace: Workspace) -> set[Path]:
    """Folders other than the workspace's that an experiment or a model of its own names as the workspace.

    An experiment is its own if it lies where headstart puts one of that name, or if its folder is here. Models may
    outlive their experiment.
    """
    told = store.execute(
        "SELECT name, artifact_location FROM experiments UNION SELECT NULL, storage_location FROM model_versions"
    )
    former = set()
    for name, address in told.fetchall():
        root, folder = _apart(address)
        ours = folder is not None and (folder == name or (workspace.artifacts / folder).is_dir())
        if root and ours and root != workspace.root and not _is_same(root, workspace.root):
            former.add(root)
    return former


def _apart(address: str | None) -> tuple[Path | None, str | None]:
    """The workspace that an address lies in, and its experiment's folder; Nones for any other address."""
    parts = (_path(address) or Path()).parts
    for i in reversed(range(1, len(parts) - 2)):
        if parts[i : i + 2] == ("mlruns", "artifacts"):
            return Path(*parts[:i]), parts[i + 2]
    return None, None


def _path(address: str | None) -> Path | None:
    """An address's path on this machine; None where it has none. MLflow writes paths both plain and as URIs."""
    if address and address.startswith("file:"):
        return Path(url2pathname(urlsplit(address).path))
    return Path(address) if address and address.startswith("/") else None


def _is_same(former: Path, root: Path) -> bool:
    """Whether a former name still leads here, as a link does that was left in its place."""
    try:
        return os.path.samefile(former, root)
    except OSError:
        return False


def _now(address: str | None, former: Iterable[Path], root: Path) -> str | None:
    """An address as it is from here, written as it was."""
    path = _path(address)
    if address is None or path is None:
        return address
    # One place may lie within another.
    above = (place for place in (root, *former) if path.is_relative_to(place))
    place = max(above, key=lambda place: len(place.parts), default=root)
    if place == root:
        return address
    moved = root / path.relative_to(place)
    return moved.as_uri() if address.startswith("file:") else str(moved)
