"""Versions of the dataset on a DVC remote: SSH, S3, HTTP or a folder, as ``dvc remote`` configures them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec.callbacks import Callback

from tasks.errors import DataError, HeadstartError
from tasks.ingest.objects import object_path
from tasks.ingest.repair import find_lacking
from tasks.ingest.repository import object_store, opened
from tasks.ingest.versioning import manifest_of, read_listing
from tasks.progress import Advance, progress
from tasks.workspace import Workspace

LOCAL = "headstart-local"
"""Name of the remote that is used where none is configured: a folder of this user."""


def push_version(name: str, workspace: Workspace, remote: str | None = None) -> tuple[int, str]:
    """Send to the remote what it does not have of a version.

    Args:
        name: the version, ending in ``.dir``.
        remote: name of a configured remote; None for the default one.

    Returns:
        The number of files sent, and the remote's address.

    Raises:
        DataError: the version is not here, or the remote cannot be reached or written.
    """
    store = object_store(workspace)
    listing = read_listing(name, store)
    wanted = {*listing.values(), name}
    _refuse(name, [digest for digest in wanted if not object_path(store, digest).is_file()], wanted)

    def verify(status: Any) -> None:
        new = {info.value for info in status.new}
        _refuse(name, find_lacking(new, listing, workspace, store), wanted)

    with _remote(workspace, remote, "push") as (repo, odb, address):
        sent = _transfer(repo.cache.local, odb, wanted, "push", to_remote=True, validate_status=verify)
    return sent, address


def _refuse(name: str, missing: list[str], wanted: set[str]) -> None:
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(wanted):,} files of version {name} are not in this workspace's store, or are "
            f"damaged, the first: {missing[0]}; `headstart data pull {name[:8]}` where a remote has them, or ingest "
            "their source again"
        )


def fetch_version(name: str, workspace: Workspace, remote: str | None = None, images: bool = True) -> int:
    """Bring into the store what is not there of a version, or not whole; all that it has of it is read.

    What ``data/`` still has comes from there, all else from the remote, where every file's content is checked against
    its name.

    Args:
        images: False for the listing and the manifest only.

    Returns:
        The number of files fetched.

    Raises:
        DataError: the remote cannot be reached, or does not have this version or a part of it.
    """
    store = object_store(workspace)
    fetched = 0
    if find_lacking({name}, {}, workspace, store):
        fetched += _fetch({name}, workspace, remote, "pull listing")
    listing = read_listing(name, store)
    wanted = set(listing.values()) if images else {listing[name] for name in [manifest_of(listing)] if name}
    lacking = set(find_lacking(wanted, listing, workspace, store))
    return fetched + (_fetch(lacking, workspace, remote, "pull") if lacking else 0)


def _fetch(digests: set[str], workspace: Workspace, remote: str | None, what: str) -> int:
    with _remote(workspace, remote, "pull") as (repo, odb, address):
        fetched = _transfer(odb, repo.cache.local, digests, what, to_remote=False)
        store = Path(repo.cache.local.path)
    if missing := sorted(digest for digest in digests if not object_path(store, digest).is_file()):
        raise DataError(
            f"{address} does not have {len(missing):,} of {len(digests):,} files asked for, the first: {missing[0]}. "
            "`headstart data push` in the workspace that has them sends them"
        )
    return fetched


def _transfer(source: Any, target: Any, digests: Iterable[str], what: str, to_remote: bool, **more: Any) -> int:
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.transfer import transfer

    wanted = {HashInfo("md5", digest) for digest in digests}
    # Without an index: DVC's note of what a remote has is believed for every file, also for those lost since.
    own = source if to_remote else target
    with progress(what, len(wanted), "file") as advance:
        # The listing goes last, so that a remote which has it has its files too.
        result = transfer(source, target, wanted, verify=not to_remote, callback=_Told(advance), cache_odb=own, **more)
    if result.failed:
        raise DataError(f"{len(result.failed):,} of {len(wanted):,} files could not be transferred; try again")
    return len(result.transferred)


class _Told(Callback):
    """Hands the number of files that DVC has transferred to `progress`."""

    def __init__(self, advance: Advance) -> None:
        super().__init__()
        self._advance, self._lock = advance, threading.Lock()

    def relative_update(self, inc: int = 1) -> None:
        with self._lock:
            self._advance(inc)


@contextmanager
def _remote(workspace: Workspace, name: str | None, command: str) -> Iterator[tuple[Any, Any, str]]:
    """DVC's repository, the remote's object database, and its address; what DVC raises as one line."""
    _choose_default(workspace)
    for library in ("dvc", "dvc_data", "dvc_objects", "asyncssh"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # they have bars and warnings of their own
    address = f"remote {name}" if name else "the default remote"
    try:
        with opened(workspace) as repo:
            remote = repo.cloud.get_remote(name, command)
            address = remote.fs.unstrip_protocol(remote.path)
            yield repo, remote.odb, address
    except HeadstartError:
        raise
    except Exception as error:  # every kind of remote has its own exceptions
        told = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"data {command} with {address} failed: {told}. `dvc remote list` shows the remotes") from error


def _choose_default(workspace: Workspace) -> None:
    """Where no remote is configured, name a folder of this user's, for this clone only."""
    from dvc.config import Config

    object_store(workspace)  # makes the workspace a DVC repository
    config = Config(str(workspace.root / ".dvc"))
    if config["remote"] or config["core"].get("remote"):
        return
    above = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    with config.edit("local") as local:
        local["remote"][LOCAL] = {"url": str(Path(above) / "headstart" / "remote")}
        local["core"]["remote"] = LOCAL
