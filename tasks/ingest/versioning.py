"""Versions of the dataset, in DVC's own format: DVC checks them out, shares them, and tidies its store.

DVC can add a folder only by hashing all of it and collecting it in memory; here every file's hash is known already.
So the objects and the listing are written directly, as DVC writes them, and a test holds ``dvc add`` against it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
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
    if not (workspace.root / ".dvc").is_dir():
        _init(workspace)
    from dvc.repo import Repo

    with Repo(str(workspace.root)) as repo:
        return Path(repo.cache.local.path)


def _init(workspace: Workspace) -> None:
    workspace.root.mkdir(parents=True, exist_ok=True)
    has_git = (workspace.root / ".git").exists()
    _dvc(workspace, "init", "--quiet", *([] if has_git else ["--no-scm"]))
    # Files in data/ without a second copy, wherever the file system can.
    for option, value in {"core.analytics": "false", "core.check_update": "false",
                          "cache.type": "reflink,hardlink,copy"}.items():  # fmt: skip
        _dvc(workspace, "config", option, value)


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
    """Make ``data.dvc`` name a version that the store has, and ``data/`` hold its files."""
    store = object_store(workspace)
    listing = read_listing(name, store)
    entries = [Entry(path, hash, object_path(store, hash).stat().st_size) for path, hash in listing.items()]
    version = Version(name, sum(entry.size for entry in entries), len(entries))
    check_out(version, entries, listing.get, workspace, store)
    return version


def current_version(workspace: Workspace) -> str | None:
    """The version that ``data.dvc`` names."""
    if not workspace.dvc_file.is_file():
        return None
    return yaml.safe_load(workspace.dvc_file.read_text())["outs"][0]["md5"]


@contextmanager
def _data_lock(workspace: Workspace) -> Iterator[None]:
    workspace.cache.mkdir(parents=True, exist_ok=True)
    with FileLock(workspace.cache / "data.lock"):
        yield


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
    with _data_lock(workspace):
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
    if workspace.dvc_file.is_file() and workspace.dvc_file.read_text() == text:
        return
    descriptor, temporary = tempfile.mkstemp(dir=workspace.root, prefix=".data.dvc-")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        os.fchmod(descriptor, 0o644)
    os.replace(temporary, workspace.dvc_file)
    ignore = workspace.root / ".gitignore"
    if (workspace.root / ".git").exists() and "/data" not in (ignore.read_text() if ignore.exists() else ""):
        with ignore.open("a") as file:
            file.write("/data\n")


def _remove_others(data: Path, hash_of: Callable[[str], str | None]) -> None:
    """Remove what other versions left: files that are write-protected, as DVC's links are."""
    above = len(str(data)) + 1
    for folder, _, names in os.walk(data, topdown=False):
        for name in names:
            path = f"{folder}{os.sep}{name}"
            if hash_of(path[above:].replace(os.sep, "/")) is None and _is_protected(path):
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
    temporary = os.path.join(os.path.dirname(target), ".headstart.tmp")  # names may be as long as they can be
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    try:
        os.link(source, temporary)
    except OSError:  # another disk, or a file system without links
        shutil.copy2(source, temporary)
    os.replace(temporary, target)


def _dvc(workspace: Workspace, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    finished = subprocess.run(command, cwd=workspace.root, capture_output=True, text=True)
    if finished.returncode:
        told = finished.stderr.strip().splitlines()
        raise DataError(f"dvc {' '.join(arguments)} failed in {workspace.root}: {told[0] if told else 'no message'}")
    return finished.stdout.strip()


def tidy(store: Path) -> None:
    """Remove what killed ingestions left half-written, once it is old enough not to be another one's at work."""
    for left in waiting_room(store).iterdir():
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()
