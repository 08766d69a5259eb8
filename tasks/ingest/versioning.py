"""Versions of the dataset, in DVC's own format: DVC checks them out, shares them, and tidies its store.

DVC can add a folder only by hashing all of it and collecting it in memory; here every file's hash is known already.
So the objects and the listing are written directly, as DVC writes them, and a test holds ``dvc add`` against it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml
from filelock import FileLock

from tasks.errors import DataError
from tasks.fingerprint import file_digest
from tasks.ingest.examine import waiting_room
from tasks.progress import progress, tell
from tasks.workspace import Workspace

MANIFEST = "manifest.parquet"
"""Name of the manifest in ``data/``."""

BESIDE = ".dvc-init"
"""Folder in which a repository is made before it takes its place."""

LINKING = ".headstart.tmp"
"""Name of a file in ``data/`` before it has its own."""

STALE = 24 * 3600
"""Seconds after which a half-written file belongs to nobody."""


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


def object_store(workspace: Workspace) -> Path:
    """Folder of DVC's content-addressed store; makes the workspace a DVC repository if it is none."""
    from dvc.repo import Repo

    if not (workspace.root / ".dvc").is_dir() or (workspace.root / BESIDE).exists():
        with _lock(workspace, "init"):
            _init(workspace)
    with Repo(str(workspace.root)) as repo:
        return Path(repo.cache.local.path)


def _init(workspace: Workspace) -> None:
    """Initialise DVC beside, then move: killed in between, it would take half a repository for its own."""
    from dvc.repo import Repo

    beside = workspace.root / BESIDE
    shutil.rmtree(beside, ignore_errors=True)
    if (workspace.root / ".dvc").is_dir():
        return  # another process was faster
    beside.mkdir()
    logging.getLogger("dvc").setLevel(logging.WARNING)  # else it says that it has initialised a repository
    has_git = (workspace.root / ".git").exists()
    with Repo.init(str(beside), no_scm=True) as repo, repo.config.edit("repo") as config:
        # Files in data/ without a second copy, wherever the file system can.
        config["cache"]["type"] = "reflink,hardlink,copy"
        config["core"] |= {"analytics": False, "check_update": False}
        if has_git:
            del config["core"]["no_scm"]
    shutil.rmtree(repo.site_cache_dir, ignore_errors=True)  # goes by the folder's name
    if not (workspace.root / ".dvcignore").exists():
        os.rename(beside / ".dvcignore", workspace.root / ".dvcignore")
    os.rename(beside / ".dvc", workspace.root / ".dvc")
    shutil.rmtree(beside)
    if has_git:
        with Repo(str(workspace.root)) as repo, repo.scm_context(autostage=True) as git:
            git.track_file([str(workspace.root / name) for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore")])


def object_path(store: Path, name: str) -> Path:
    """Where the store keeps a content or listing."""
    return store / name[:2] / name[2:]


def keep_file(path: Path, store: Path) -> str:
    """Put a copy of a file into the store, whole or not at all, and return its MD5."""
    digest = file_digest(path, "md5")
    final = object_path(store, digest)
    if not final.exists():
        descriptor, temporary = tempfile.mkstemp(dir=waiting_room(store))
        os.close(descriptor)
        shutil.copyfile(path, temporary)
        os.chmod(temporary, 0o444)
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, final)
    return digest


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
        os.fchmod(descriptor, 0o444)
    name = f"{digest.hexdigest()}.dir"
    final = object_path(store, name)
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(temporary, final)
    return Version(name, size, files)


def read_listing(name: str, store: Path) -> dict[str, str]:
    """MD5 by path of all files of a version.

    Raises:
        DataError: the store does not have this version.
    """
    try:
        listing = json.loads(object_path(store, name).read_bytes())
    except FileNotFoundError as error:
        raise DataError(
            f"version {name} of the dataset is not in this workspace's store; `headstart data pull {name[:8]}` "
            "fetches it from the remote"
        ) from error
    return {entry["relpath"]: entry["md5"] for entry in listing}


def local_versions(workspace: Workspace) -> dict[str, tuple[int, bool]]:
    """Versions whose listing the store has: how many files they have, and whether the store has all of these too."""
    store = object_store(workspace)
    stored = {f"{path.parent.name}{path.name}" for path in store.glob("??/*")}
    found = {}
    for name in stored:
        if name.endswith(".dir"):
            listing = read_listing(name, store)
            found[name] = len(listing), stored.issuperset(listing.values())
    return found


def read_manifest(name: str, workspace: Workspace) -> pd.DataFrame:
    """The manifest of a version that the store has; see `tasks.records`.

    Raises:
        DataError: the version has none: it was not made by headstart.
    """
    store = object_store(workspace)
    listing = read_listing(name, store)
    if MANIFEST not in listing:
        raise DataError(f"version {name} has no {MANIFEST}: `dvc add` made it, not headstart")
    return pd.read_parquet(object_path(store, listing[MANIFEST]))


def restore_version(name: str, workspace: Workspace) -> Version:
    """Make ``data.dvc`` name a version that the store has, and ``data/`` hold its files.

    Raises:
        DataError: the store does not have this version, or not all of its files.
    """
    store = object_store(workspace)
    listing = read_listing(name, store)
    try:
        entries = [Entry(path, hash, object_path(store, hash).stat().st_size) for path, hash in listing.items()]
    except FileNotFoundError as error:
        raise DataError(
            f"files of version {name} are not in this workspace's store; `headstart data pull {name[:8]}` "
            "fetches them from the remote"
        ) from error
    version = Version(name, sum(entry.size for entry in entries), len(entries))
    check_out(version, entries, listing.get, workspace, store)
    return version


def current_version(workspace: Workspace) -> str | None:
    """The version that ``data.dvc`` names."""
    if not workspace.dvc_file.is_file():
        return None
    return yaml.safe_load(workspace.dvc_file.read_text())["outs"][0]["md5"]


def _lock(workspace: Workspace, name: str) -> FileLock:
    workspace.cache.mkdir(parents=True, exist_ok=True)
    return FileLock(workspace.cache / f"{name}.lock")


def check_out(
    version: Version, entries: Iterable[Entry], hash_of: Callable[[str], str | None], workspace: Workspace, store: Path
) -> None:
    """Make ``data.dvc`` name a version, and ``data/`` hold its files.

    Killed in between, ``data.dvc`` is right already, and the next check-out, or DVC's, finishes the folder. Files in
    ``data/`` that are neither this version's nor another's are left alone.

    Args:
        entries: files of the version.
        hash_of: the MD5 of the file of a path, None for a path that is not in the version.
    """
    with _lock(workspace, "data"):
        _write_dvc_file(version, workspace)
        _remove_others(workspace.data, hash_of)
        root, ready = f"{workspace.data}{os.sep}", {""}
        workspace.data.mkdir(parents=True, exist_ok=True)
        with progress("check out", version.files, "file") as advance:
            for entry in entries:
                folder = os.path.dirname(entry.path)
                if folder not in ready:
                    os.makedirs(root + folder, exist_ok=True)
                    ready.add(folder)
                _link(f"{store}/{entry.hash[:2]}/{entry.hash[2:]}", root + entry.path)
                advance(1)


def _write_dvc_file(version: Version, workspace: Workspace) -> None:
    out = {"md5": version.name, "size": version.size, "nfiles": version.files, "hash": "md5", "path": "data"}
    text = yaml.safe_dump({"outs": [out]}, sort_keys=False)
    ignore, temporary = workspace.root / ".gitignore", workspace.root / ".data.dvc.tmp"
    ignored = ignore.read_text().splitlines() if ignore.exists() else []
    if (workspace.root / ".git").exists() and "/data" not in ignored:
        ignore.write_text("\n".join([*ignored, "/data", ""]))
    temporary.unlink(missing_ok=True)  # of a killed check-out
    if not workspace.dvc_file.is_file() or workspace.dvc_file.read_text() != text:
        temporary.write_text(text)
        os.replace(temporary, workspace.dvc_file)


def _remove_others(data: Path, hash_of: Callable[[str], str | None]) -> None:
    """Remove what other versions left: files that are write-protected, as DVC's links are, and half-made copies."""
    above = len(str(data)) + 1
    for folder, _, names in os.walk(data, topdown=False):
        for name in names:
            path = f"{folder}{os.sep}{name}"
            if hash_of(path[above:].replace(os.sep, "/")) is None and (name == LINKING or _is_protected(path)):
                os.unlink(path)
        if len(folder) > above and not os.listdir(folder):
            os.rmdir(folder)


def _is_protected(path: str) -> bool:
    return not os.lstat(path).st_mode & stat.S_IWUSR


def _link(source: str, target: str) -> None:
    try:
        here, there = os.lstat(target), os.stat(source)
    except FileNotFoundError:
        pass
    else:
        copied = (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns)
        if os.path.samestat(here, there) or copied:
            return
        if not _is_protected(target):
            os.replace(target, f"{target}.edited")
            tell(f"check out\t{target} was edited; the edit is kept as {target}.edited")
    temporary = os.path.join(os.path.dirname(target), LINKING)  # names may be as long as they can be
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    try:
        os.link(source, temporary)
    except OSError:  # another disk, or a file system without links
        shutil.copy2(source, temporary)
    os.replace(temporary, target)


def tidy(store: Path) -> None:
    """Remove what killed ingestions left half-written, once it is old enough not to be another one's at work."""
    waiting_room.cache_clear()  # the store may have been deleted since
    for left in waiting_room(store).iterdir():
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()
