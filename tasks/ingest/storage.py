"""Reading files wherever they lie: on this machine, or anywhere that fsspec reaches."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tasks.errors import DataError, HeadstartError, TooLarge

CLUTTER = frozenset([
    "__MACOSX", "Icon\r", "Network Trash Folder", "Temporary Items",  # macOS
    "Thumbs.db", "ehthumbs.db", "desktop.ini", "$RECYCLE.BIN", "System Volume Information",  # Windows
    "lost+found",  # Linux
    "@eaDir", "@tmp", "@SynoResource", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot",  # Synology, QNAP
])  # fmt: skip
"""What operating systems and file servers leave in folders, in any case, beside names that begin with a dot."""

MISSING = "missing"
"""Stamp of what cannot be reached, such as a link to nowhere: reading it will tell."""

APART = "apart"
"""Stamp of a folder that is passed over, whatever is in it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a tree: its path below the root, where to read it, and a stamp that changes with its content, or is
    empty where there is none."""

    relative: str
    place: str
    size: int
    stamp: str


_HIDDEN = re.compile(rf"(?:^|/)(?:\.|(?:{'|'.join(map(re.escape, sorted(CLUTTER)))})(?:/|$))", re.IGNORECASE)


def is_hidden(relative: str) -> bool:
    """Whether a name, or a folder on the way to it, is hidden or clutter."""
    return _HIDDEN.search(relative) is not None


def walk(root: Path | str, folders: bool = False, apart: Collection[Path] = ()) -> Iterator[Entry]:
    """All files below a folder in the order of their names, links followed, a hidden folder as one entry.

    Args:
        folders: empty folders too, with a slash at the end of their names.
        apart: folders on this machine each of which is one entry, too, with the stamp `APART`.

    Raises:
        DataError: the folder, or one below it that lies elsewhere, cannot be reached.
    """
    for entry in _walk_local(root, apart) if isinstance(root, Path) else _walk_remote(root):
        if folders or not entry.relative.endswith("/"):
            yield entry


def _walk_local(root: Path, apart: Collection[Path]) -> Iterator[Entry]:
    passed = {(status.st_dev, status.st_ino) for status in (folder.stat() for folder in apart if folder.is_dir())}
    # A stack of its own: trees may be deeper than Python's.
    waiting: list[tuple[str, str, frozenset[tuple[int, int]]]] = [("", str(root), frozenset())]
    while waiting:
        relative, path, above = waiting.pop()
        try:
            status = os.stat(path)
            if not stat.S_ISDIR(status.st_mode) or (relative and is_hidden(relative)):
                yield Entry(relative, path, status.st_size, f"{status.st_size}-{status.st_mtime_ns}")
                continue
            here = (status.st_dev, status.st_ino)
            if here in passed:
                yield Entry(relative, path, 0, APART)
                continue
            names = sorted(os.listdir(path), reverse=True) if here not in above else []  # a link back to where it lies
        except OSError:
            if not relative:
                raise
            yield Entry(relative, path, 0, MISSING)  # a link to nowhere, a locked folder: reading it will tell
            continue
        if relative and not names and here not in above:
            yield Entry(f"{relative}/", path, 0, "empty")
        inside = above | {here}
        waiting += [(f"{relative}/{name}" if relative else name, f"{path}/{name}", inside) for name in names]


def count_files(root: Path | str) -> int:
    """About how many files there are below a folder, from names alone; 0 where only a network could tell."""
    return sum(len(names) for _, _, names in os.walk(root)) if isinstance(root, Path) else 0


def _walk_remote(root: str) -> Iterator[Entry]:
    files, path = filesystem(root)
    files.invalidate_cache()  # else a store changes unnoticed while this process lives
    top = path.rstrip("/")
    waiting: list[dict[str, Any]] = [{"name": top, "type": "directory"}]
    with told_as_data_error(root):
        while waiting:
            found = waiting.pop()
            name = found["name"].rstrip("/")
            relative = name.removeprefix(top).lstrip("/")
            if found["type"] == "directory" and not (relative and is_hidden(relative)):
                # Object stores keep placeholders for empty folders, which are called as the folder is.
                below = [entry for entry in files.ls(name, detail=True) if entry["name"].rstrip("/") != name]
                waiting += sorted(below, key=lambda entry: entry["name"], reverse=True)
                if relative and not below:
                    yield Entry(f"{relative}/", name, 0, "empty")
            else:
                yield Entry(relative, files.unstrip_protocol(name), int(found.get("size") or 0), _stamp(found))


STAMPS = ("ETag", "etag", "LastModified", "Last-Modified", "updated", "mtime", "modified", "created")
"""Where the stores tell what changes with a file."""


def _stamp(status: dict[str, Any]) -> str:
    """Size and time, or an ETag; empty where the store tells neither, as a web server's listing does not."""
    known = next((str(status[key]) for key in STAMPS if status.get(key)), "")
    return f"{status.get('size')}-{known}" if known else ""


def stamp_of(place: Path | str) -> str:
    """Size and time, or an ETag, of one file.

    Raises:
        DataError: it cannot be reached.
    """
    if isinstance(place, Path):
        status = place.stat()
        return f"{status.st_size}-{status.st_mtime_ns}"
    files, path = filesystem(place)
    with told_as_data_error(place):
        files.invalidate_cache()
        status = files.info(path)
        return _stamp(status) or str(status.get("size"))


def read(place: str, limit: int) -> bytes:
    """A file's bytes.

    Raises:
        TooLarge: there are more than ``limit``.
        OSError: the file cannot be read.
    """
    if "://" not in place:
        return _read_local(place, limit)
    with open_stream(place) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise TooLarge(f"more than {limit:,} bytes (ingest.limits.bytes)")
    return content


def _read_local(place: str, limit: int) -> bytes:
    descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe that nobody fills would never end
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if status.st_size > limit:
            raise TooLarge(f"more than {limit:,} bytes (ingest.limits.bytes)")
        content = os.read(descriptor, status.st_size + 1)
        while part := os.read(descriptor, 1 << 20) if content else b"":
            content += part
            if len(content) > limit:  # it grows, or does not tell its size, as what lies in /proc
                raise TooLarge(f"more than {limit:,} bytes (ingest.limits.bytes)")
    finally:
        os.close(descriptor)
    return content


@contextmanager
def open_stream(place: str | Path) -> Iterator[IO[bytes]]:
    """Open a path or URL for reading."""
    if isinstance(place, Path) or "://" not in place:
        with open(place, "rb") as opened:
            yield opened
    else:
        files, path = filesystem(place)
        with files.open(path, "rb") as opened:
            yield opened


def filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it.

    Raises:
        DataError: the package that speaks this protocol is not installed.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        scheme = url.partition("://")[0]
        raise DataError(f"{url}: {scheme}:// needs another package: pip install 'headstart[{scheme}]'") from error


@contextmanager
def told_as_data_error(url: str) -> Iterator[None]:
    """Failures of a remote store in one line: what, where, what to do."""
    try:
        yield
    except HeadstartError:
        raise
    except Exception as error:  # every store has its own exceptions
        told = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{url} cannot be read: {told}. Check the address, and the credentials of its store") from error
