"""``data/`` holds a version's files, and whatever the user has put there.

What is not some version's (see `tasks.ingest.leftovers`) is the user's: it stays, and where it stands in the way of the
version it is kept beside.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from tasks.errors import DataError
from tasks.fingerprint import file_digest
from tasks.ingest.leftovers import Leftovers
from tasks.ingest.objects import damaged_folder, is_whole, object_path, set_aside
from tasks.ingest.pointer import current_version, write_pointer
from tasks.ingest.repair import find_lacking
from tasks.ingest.repository import link_types, lock, object_store
from tasks.ingest.versioning import Entry, Version, read_listing
from tasks.progress import progress, tell
from tasks.workspace import Workspace, keep_beside

LINKING = ".headstart.tmp"
"""Name of a file in ``data/`` before it has its own."""

BLOCK = 2**16
"""Bytes read at once."""


class DamagedObject(DataError):
    """A file of the store is not what it was; it has been set aside, so that the next ingestion puts it there anew."""


def restore_version(name: str, workspace: Workspace, verify: bool = True) -> Version:
    """Make ``data.dvc`` name a version that the store has, and ``data/`` hold its files.

    Args:
        verify: False where all of its files have just been read.

    Raises:
        DataError: the store does not have this version, or not all of its files, or not whole.
    """
    store = object_store(workspace)
    listing = read_listing(name, store)
    names = set(listing.values())
    if lacking := find_lacking(names, listing, workspace, store) if verify else []:
        raise DataError(
            f"{len(lacking):,} of {len(names):,} files of version {name} are missing or damaged in this workspace's "
            f"store, the first: {lacking[0]}; `headstart data pull {name[:8]}` fetches them from the remote, ingesting "
            "their source puts them there"
        )
    entries = [Entry(path, hash, object_path(store, hash).stat().st_size) for path, hash in listing.items()]
    version = Version(name, sum(entry.size for entry in entries), len(entries))
    check_out(version, entries, listing.get, workspace, store)
    return version


def check_out(
    version: Version, entries: Iterable[Entry], hash_of: Callable[[str], str | None], workspace: Workspace, store: Path
) -> None:
    """Make ``data.dvc`` name a version, and ``data/`` hold its files.

    Killed in between, ``data.dvc`` is right already, and the next check-out, or DVC's, finishes the folder.

    Args:
        entries: files of the version.
        hash_of: the MD5 of the file of a path, None for a path that is not in the version.

    Raises:
        ConfigurationError: ``data.dvc`` is the user's; see `tasks.ingest.pointer.claim`.
        DamagedObject: a file of the version is not whole in the store.
    """
    with lock(workspace, "data"):
        leftovers = Leftovers(store, current_version(workspace))
        write_pointer(version, workspace)
        workspace.data.mkdir(parents=True, exist_ok=True)
        folder = Folder(workspace.data.resolve(), store, link_types(workspace), leftovers)
        folder.remove_others(hash_of)
        folder.fill(entries, version.files)


class Folder:
    """``data/``, while it is made to hold a version.

    Args:
        folder: the folder itself, where ``data`` is a link to one.
        links: how files get there; see `tasks.ingest.repository.link_types`.
    """

    def __init__(self, folder: Path, store: Path, links: list[str], leftovers: Leftovers) -> None:
        self.root, self.store, self.leftovers = f"{folder}{os.sep}", store, leftovers
        self._links = links
        self._shared = {"hardlink", "symlink"}.intersection(links)
        self._ready = {""}

    def remove_others(self, hash_of: Callable[[str], str | None]) -> None:
        """Remove what other versions and killed check-outs left."""
        foreign = []
        for folder, _, names in os.walk(self.root):
            below = folder[len(self.root) :].replace(os.sep, "/")
            for name in names:
                path = f"{below}/{name}" if below else name
                if name == LINKING:
                    os.unlink(self.root + path)
                elif hash_of(path) is None:
                    foreign.append(path)
        for path in self.leftovers.among(self.root, foreign):
            os.unlink(self.root + path)
            with suppress(OSError):  # until a folder is not empty
                while path := os.path.dirname(path):
                    os.rmdir(self.root + path)

    def fill(self, entries: Iterable[Entry], total: int) -> None:
        """Put the version's files in their places."""
        taken = []
        with progress("check out", total, "file") as advance:
            for entry in entries:
                self._make_room(os.path.dirname(entry.path))
                if not self._fits(entry):
                    if os.path.lexists(self.root + entry.path):
                        taken.append(entry)
                    else:
                        self._put(entry)
                advance(1)
        ours = self.leftovers.among(self.root, (entry.path for entry in taken))
        for entry in taken:
            if entry.path not in ours:
                self._clear(self.root + entry.path, "was edited; the edit is kept as")
            self._put(entry)

    def _make_room(self, folder: str) -> None:
        """Make a folder and those above, never through a link or a file that the user has put in its place."""
        if folder in self._ready:
            return
        self._make_room(os.path.dirname(folder))
        path = self.root + folder
        with suppress(FileNotFoundError):
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                self._clear(path, "stood where a folder belongs; it is kept as")
        with suppress(FileExistsError):
            os.mkdir(path)
        self._ready.add(folder)

    def _clear(self, path: str, why: str) -> None:
        """Take what is the user's out of the way."""
        with suppress(OSError):
            os.rmdir(path)  # an empty folder is nobody's work
            return
        tell(f"check out\t{path} {why} {keep_beside(Path(path), 'edited')}")

    def _fits(self, entry: Entry) -> bool:
        """Whether the file in an entry's place is the entry's, by size and time or else by its content."""
        target, source = self.root + entry.path, f"{self.store}/{entry.hash[:2]}/{entry.hash[2:]}"
        try:
            here = os.lstat(target)
        except FileNotFoundError:
            return False
        if stat.S_ISLNK(here.st_mode):
            return "symlink" in self._shared and os.readlink(target) == source
        try:
            there = os.stat(source)
        except FileNotFoundError:
            raise self._damaged(entry) from None
        if os.path.samestat(here, there):
            return "hardlink" in self._shared
        if not stat.S_ISREG(here.st_mode) or here.st_size != there.st_size:
            return False
        if here.st_mtime_ns == there.st_mtime_ns:
            return True
        try:
            same = file_digest(Path(target), "md5") == entry.hash
            os.utime(target, ns=(here.st_atime_ns, there.st_mtime_ns))  # so that the next look is enough
        except OSError:
            return False
        return same

    def _put(self, entry: Entry) -> None:
        """Put a file in its place, whole or not at all, if the store has it whole."""
        target, source = self.root + entry.path, str(object_path(self.store, entry.hash))
        temporary = os.path.join(os.path.dirname(target), LINKING)  # names may be as long as they can be
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        try:
            whole = self._bring(source, temporary, entry.hash)
        except FileNotFoundError:
            whole = False
        if not whole:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            set_aside(entry.hash, self.store)
            raise self._damaged(entry)
        os.replace(temporary, target)

    def _bring(self, source: str, target: str, digest: str) -> bool:
        """Link, clone or copy an object, whatever comes first and works here; False where it is damaged."""
        while (link := self._links[0]) != "copy":
            try:
                _LINK[link](source, target)
            except FileNotFoundError:
                raise
            except OSError as error:
                if error.errno == errno.EMLINK:  # this one has as many as there can be
                    break
                self._links = self._links[1:]  # another disk, or a file system that cannot
            else:
                if link == "reflink":
                    _copy_time(source, target)
                return is_whole(digest, self.store)
        return _copied(source, target) == digest

    def _damaged(self, entry: Entry) -> DamagedObject:
        return DamagedObject(
            f"{entry.path} (content {entry.hash}) is missing or damaged in this workspace's store; ingesting its "
            f"source again, or `headstart data pull` where a remote has it, replaces it. Damaged files are kept in "
            f"{damaged_folder(self.store)}"
        )


def _reflink(source: str, target: str) -> None:
    from dvc_objects.fs.system import reflink

    reflink(source, target)


_LINK: dict[str, Callable[[str, str], None]] = {
    "reflink": _reflink,
    "hardlink": os.link,
    "symlink": os.symlink,
}


def _copied(source: str, target: str) -> str:
    """Copy a file with its times, and return the MD5 of what was copied."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(source, "rb", buffering=0) as original, open(target, "wb", buffering=0) as copy:
        while block := original.read(BLOCK):
            digest.update(block)
            left = memoryview(block)
            while len(left):
                left = left[copy.write(left) :]
        _copy_time(original.fileno(), copy.fileno())
    return digest.hexdigest()


def _copy_time(source: str | int, target: str | int) -> None:
    there = os.stat(source)
    os.utime(target, ns=(there.st_atime_ns, there.st_mtime_ns))
