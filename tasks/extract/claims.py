"""Who is at what: locks and claims that end with the process that holds them, however it ends.

A file is *held* while a lock (``flock``) lies on it. The kernel takes the lock away from a process that dies, killed
or not, so whoever finds a file of that kind whose lock is free knows that nobody will come back to it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from tasks.errors import StorageError
from tasks.extract.keys import KEY

CLAIM, WRITING = ".claim-", ".writing-"
"""How the names of claims and of half-written files begin."""

_held: dict[str, int] = {}
_own: dict[str, np.ndarray] = {}
"""Descriptors of the files that this process holds, and what it has claimed, by the file's name. A network's locks may
be the process's and not the descriptor's: asking for one that a thread of this process has would then be granted, and
closing its file would end it."""
_turn = threading.Lock()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one thread of one process at a time into the block, of all that use a folder.

    Raises:
        StorageError: the folder cannot be written, or its file system knows no locks.
    """
    with _turn:
        with storing(folder):
            descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with storing(folder):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough where a fork has inherited it
        finally:
            os.close(descriptor)


@contextmanager
def held(folder: Path, kind: str) -> Iterator[tuple[Path, int]]:
    """A new file, held during the block and gone at its end, unless it has got another name.

    Yields:
        Its path, and a descriptor to write to.
    """
    while True:
        path = folder / f"{kind}{uuid.uuid4().hex}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        _held[path.name] = descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if path.exists():  # else it was taken for a dead one's before it was locked
                yield path, descriptor
                return
        finally:
            if _held.pop(path.name, None) is not None:  # else this is a fork of the process that holds it
                path.unlink(missing_ok=True)
                os.close(descriptor)


def is_dead(path: Path, remove: bool = False) -> bool:
    """Whether a file was held once and is not any more.

    Args:
        remove: and remove it, if so.
    """
    if path.name in _held:
        return False
    try:
        descriptor = os.open(path, os.O_RDWR)
    except (FileNotFoundError, PermissionError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if remove:
            path.unlink(missing_ok=True)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def leftovers(folder: Path, remove: bool = False) -> list[Path]:
    """Claims and half-written files of dead processes; optionally removed."""
    hidden = [path for path in sorted(folder.glob(".*")) if path.name.startswith((CLAIM, WRITING))]
    return [path for path in hidden if is_dead(path, remove)]


def claims(folder: Path) -> np.ndarray:
    """The keys, S16 ``[N]``, that are claimed by the living; what the dead have left is removed.

    To be called with the folder locked, so that none is half written.
    """
    found = [np.empty(0, KEY)]
    for path in folder.glob(f"{CLAIM}*"):
        if (keys := _own.get(path.name)) is not None:
            found.append(keys)
        elif not is_dead(path, remove=True):
            with suppress(FileNotFoundError):  # done with, just now
                found.append(np.frombuffer(path.read_bytes(), KEY))
    return np.concatenate(found)


@contextmanager
def claimed(folder: Path, keys: np.ndarray) -> Iterator[None]:
    """Claim keys during the block. To be entered with the folder locked; it need not be so for long.

    Raises:
        StorageError: the claim cannot be written.
    """
    with ExitStack() as holding:
        with storing(folder, keys.nbytes):
            path, descriptor = holding.enter_context(held(folder, CLAIM))
            with open(descriptor, "wb", closefd=False) as file:
                file.write(keys.tobytes())
        _own[path.name] = keys
        holding.callback(_own.pop, path.name, None)
        yield


@contextmanager
def storing(folder: Path, needed: int = 0) -> Iterator[None]:
    """Tell in words that a person can act on why something could not be written.

    Args:
        needed: bytes that were to be written.

    Raises:
        StorageError: an `OSError` came out of the block.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(_told(folder, needed, error)) from error


def _told(folder: Path, needed: int, error: OSError) -> str:
    size = f"{needed / 2**20:,.1f} MiB"
    match error.errno:
        case errno.ENOSPC:
            what = f"the disk is full: {size} are needed and {_free(folder) / 2**20:,.1f} MiB are free. Make room"
        case errno.EDQUOT:
            what = f"your disk quota is used up: {size} are needed. Make room"
        case errno.EFBIG:
            what = f"a file of {size} is larger than allowed (`ulimit -f`). Allow it"
        case errno.ENOLCK | errno.ENOSYS | errno.EOPNOTSUPP:
            what = "its file system has no file locks (flock). Mount it with locks, or take another workspace"
        case _:
            what = f"it cannot be written ({error.strerror or error}). Mend that"
    return f"{folder}: {what}, and run again: what was computed before is kept"


def _free(folder: Path) -> int:
    status = os.statvfs(next(path for path in (folder, *folder.parents) if path.exists()))
    return status.f_bavail * status.f_frsize


def _forget() -> None:
    """A fork holds nothing: else what its parent held would outlive the parent."""
    global _turn
    _turn = threading.Lock()
    for descriptor in _held.values():
        os.close(descriptor)
    _held.clear()
    _own.clear()


os.register_at_fork(after_in_child=_forget)
