"""Versions of the dataset, in DVC's own format: DVC checks them out, shares them, and tidies its store.

DVC can add a folder only by hashing all of it and collecting it in memory; here every file's hash is known already.
So the objects and the listing are written directly, as DVC writes them, and a test holds ``dvc add`` against it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tasks.errors import DataError
from tasks.ingest.manifest import MANIFEST, TABLE, parse_manifest, parse_targets
from tasks.ingest.objects import object_path, settle, waiting_room
from tasks.ingest.repository import find_store
from tasks.target import Target
from tasks.workspace import Workspace


class Entry(NamedTuple):
    """A file of a version: its path below ``data/``, the MD5 of its content, and its size in bytes."""

    path: str
    hash: str
    size: int


class Version(NamedTuple):
    """A version of ``data/``.

    Attributes:
        name: MD5 of the listing, with DVC's suffix ``.dir``.
        size: bytes of all files.
        files: how many.
    """

    name: str
    size: int
    files: int


def write_version(entries: Iterable[Entry], store: Path) -> Version:
    """Write the listing of a version into the store.

    Args:
        entries: in the order of their paths.
    """
    digest, size, files = hashlib.md5(usedforsecurity=False), 0, 0
    descriptor, temporary = tempfile.mkstemp(dir=waiting_room(store))
    with os.fdopen(descriptor, "wb") as listing:

        def write(text: str) -> None:
            encoded = text.encode()
            digest.update(encoded)
            listing.write(encoded)

        # As DVC's json.dumps would write it.
        separator = "["
        for path, hash, length in entries:
            write(f'{separator}{{"md5": "{hash}", "relpath": {encode_basestring_ascii(path)}}}')
            separator, files, size = ", ", files + 1, size + length
        write("]" if files else "[]")
    name = f"{digest.hexdigest()}.dir"
    settle(Path(temporary), name, store)
    return Version(name, size, files)


def read_listing(name: str, store: Path | None) -> dict[str, str]:
    """MD5 by path of all files of a version.

    Args:
        store: None where the workspace has none.

    Raises:
        DataError: the store does not have this version, or what it has is damaged.
    """
    return {entry["relpath"]: entry["md5"] for entry in json.loads(_read(name, name, "listing", store))}


def _read(name: str, version: str, what: str, store: Path | None) -> bytes:
    """The content of a version's listing or manifest, which is what its name says."""
    content = None
    if store:
        with suppress(FileNotFoundError):
            content = object_path(store, name).read_bytes()
    if content is None:
        raise DataError(
            f"version {version} of the dataset is not in this workspace's store; `headstart data pull {version[:8]}` "
            "fetches it from the remote"
        )
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != name.removesuffix(".dir"):
        raise DataError(
            f"the {what} of version {version} is damaged in this workspace's store; `headstart data pull "
            f"{version[:8]}` where a remote has it, or ingesting its source again, replaces it"
        )
    return content


def local_versions(workspace: Workspace) -> dict[str, tuple[int | None, bool]]:
    """Versions whose listing the store has: how many files they have (None where the listing is damaged), and whether
    the store has all of these too."""
    store = find_store(workspace)
    stored = {f"{path.parent.name}{path.name}" for path in store.glob("??/*")} if store else set()
    found: dict[str, tuple[int | None, bool]] = {}
    for name in stored:
        if name.endswith(".dir"):
            try:
                listing = read_listing(name, store)
            except DataError:
                found[name] = None, False
            else:
                found[name] = len(listing), stored.issuperset(listing.values())
    return found


def manifest_of(listing: Mapping[str, str]) -> str | None:
    """What a version's manifest is called, if it has one."""
    return next((name for name in (MANIFEST, TABLE) if name in listing), None)


def read_manifest(name: str, workspace: Workspace) -> pd.DataFrame:
    """The manifest of a version that the store has; see `tasks.records`.

    Raises:
        DataError: the version has none (it was not made by headstart), or it is not there or damaged.
    """
    return parse_manifest(*_manifest(name, workspace))


def read_targets(name: str, workspace: Workspace) -> tuple[Target, ...]:
    """The tasks of a version that the store has, without their classes and units.

    Raises:
        DataError: as `read_manifest`.
    """
    return parse_targets(*_manifest(name, workspace))


def is_known(name: str, workspace: Workspace) -> bool:
    """Whether the store has a version's manifest; not so without a name."""
    try:
        return bool(name) and bool(_manifest(name, workspace))
    except DataError:
        return False


def _manifest(name: str, workspace: Workspace) -> tuple[bytes, str]:
    """The content of a version's manifest, and what it is called."""
    store = find_store(workspace)
    listing = read_listing(name, store)
    manifest = manifest_of(listing)
    if manifest is None:
        raise DataError(f"version {name} has no {MANIFEST}: `dvc add` made it, not headstart")
    return _read(listing[manifest], name, "manifest", store), manifest


def is_made_here(name: str, workspace: Workspace) -> bool:
    """Whether headstart made a version: its files are those that its manifest names, and no others.

    A folder that ``dvc add`` versioned after somebody worked in it has a manifest, too, but it names other files.
    """
    try:
        listing = read_listing(name, find_store(workspace))
        manifest = read_manifest(name, workspace)
        named = dict(zip(manifest["path"], manifest["hash"], strict=True))
    except (DataError, KeyError, ValueError, OSError):  # not here, or another program's manifest
        return False
    return named == {path: digest for path, digest in listing.items() if path != manifest_of(listing)}
