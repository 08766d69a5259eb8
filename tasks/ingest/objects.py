"""The store's objects: every file of every version, called by the MD5 of its content, as DVC keeps them.

That an object exists does not say that it is whole: disks fail, and where ``data/`` holds hard links, who edits a
picture there edits the object. So whoever puts a content into the store looks at the one that is there, and a damaged
object is set aside: what is missing is brought back from whatever still has it, what is damaged in silence is not.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tasks.fingerprint import file_digest
from tasks.progress import progress, tell

STALE = 24 * 3600
"""Seconds after which a half-written file belongs to nobody."""


class Kept(NamedTuple):
    """An object that is whole.

    Attributes:
        time: when it was written, in nanoseconds since the epoch. An object that has another one, or another size,
            may have changed since.
        mended: whether a damaged one was in its place.
    """

    time: int
    mended: bool


class Faults(NamedTuple):
    """Objects that are not there, and those whose content is not what their name says."""

    missing: list[str]
    damaged: list[str]


def object_path(store: Path, name: str) -> Path:
    """Where the store keeps a content or listing."""
    return store / name[:2] / name[2:]


def keep(content: bytes, digest: str, store: Path) -> Kept:
    """See to it that the store holds a content, whole; ``digest`` is its MD5."""
    final = f"{store}/{digest[:2]}/{digest[2:]}"
    try:
        with open(final, "rb", buffering=0) as there:
            status = os.fstat(there.fileno())
            if status.st_size == len(content) and there.readall() == content:
                return Kept(status.st_mtime_ns, mended=False)
    except FileNotFoundError:
        mended = False
    else:
        mended = set_aside(digest, store)
    temporary = f"{waiting_room(store)}/{secrets.token_hex(8)}-{digest}"
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o444)  # write-protected, as DVC does
    try:
        written = os.write(descriptor, content)
        while written < len(content):
            written += os.write(descriptor, content[written:])
    finally:
        os.close(descriptor)
    try:
        os.replace(temporary, final)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(final), exist_ok=True)
        os.replace(temporary, final)
    return Kept(os.stat(final).st_mtime_ns, mended)


def keep_file(path: Path, store: Path) -> str:
    """See to it that the store holds a file's content, whole, and return its MD5."""
    descriptor, temporary = tempfile.mkstemp(dir=waiting_room(store))
    os.close(descriptor)
    shutil.copyfile(path, temporary)
    digest = file_digest(Path(temporary), "md5")  # of what is kept: the file may change meanwhile
    settle(Path(temporary), digest, store)
    return digest


def settle(temporary: Path, name: str, store: Path) -> None:
    """Give a file of the waiting room, which is whole, its place in the store, if no whole one is there."""
    final = object_path(store, name)
    with suppress(FileNotFoundError):
        if is_whole(name, store):
            temporary.unlink()
            return
        set_aside(name, store)
    os.chmod(temporary, 0o444)
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(temporary, final)


def is_whole(name: str, store: Path) -> bool:
    """Whether an object's content is what its name says: reads all of it.

    Raises:
        FileNotFoundError: the store does not have it.
    """
    return file_digest(object_path(store, name), "md5") == name.removesuffix(".dir")


def find_faults(names: Collection[str], store: Path) -> Faults:
    """Read objects, all of each, and tell which are not there or not whole."""
    faults = Faults([], [])
    with progress("verify", len(names), "file") as advance:
        for name in sorted(names):
            try:
                if not is_whole(name, store):
                    faults.damaged.append(name)
            except FileNotFoundError:
                faults.missing.append(name)
            advance(1)
    return faults


def set_aside(name: str, store: Path) -> bool:
    """Take a damaged object out of the store, but keep it: it may be somebody's work. False if it was gone."""
    folder = damaged_folder(store)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(object_path(store, name), folder / f"{name}-{time.time_ns()}")
    except FileNotFoundError:
        return False  # by another process
    return True


def tell_mended(stage: str, names: Sequence[str], source: str, store: Path) -> None:
    """Say which damaged objects were replaced, and by what."""
    tell(
        f"{stage}\tdamaged files of the store, replaced from {source}: {len(names):,}, the first: {names[0]}; "
        f"the damaged ones are kept in {damaged_folder(store)}"
    )


def damaged_folder(store: Path) -> Path:
    """Where damaged objects are kept, outside of what DVC looks at."""
    return store.parent.parent / "headstart-damaged"


@cache
def waiting_room(store: Path) -> Path:
    """Folder for half-written objects, on the store's disk and outside of what DVC looks at."""
    room = store.parent.parent / "headstart-tmp"
    room.mkdir(parents=True, exist_ok=True)
    return room


def tidy(store: Path) -> None:
    """Remove what killed ingestions left half-written, once it is old enough not to be another one's at work."""
    waiting_room.cache_clear()  # the store may have been deleted since
    for left in waiting_room(store).iterdir():
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()
