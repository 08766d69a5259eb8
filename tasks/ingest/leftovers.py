"""Which files of ``data/`` are headstart's own, to be removed or replaced.

A file is, only if some version of the store has its content under its path: so it is in the store, and a check-out
brings it back. Write protection and links say nothing: cameras and read-only disks protect files, too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from tasks.errors import DataError
from tasks.fingerprint import file_digest
from tasks.ingest.objects import object_path
from tasks.ingest.versioning import read_listing


class Leftovers:
    """Tells which files of ``data/`` some version put there.

    Args:
        store: holds all versions.
        likely: the version that is asked first.
    """

    def __init__(self, store: Path, likely: str | None) -> None:
        self.store, self.likely = store, likely

    def among(self, root: str, paths: Iterable[str]) -> set[str]:
        """The paths, below ``root``, of files that a version has there with the very content that they have now."""
        contents = {path: name for path in paths if (name := self._content(root + path)) is not None}
        found: set[str] = set()
        for version in self._versions() if contents else ():
            if len(found) == len(contents):
                break
            with suppress(DataError):  # a damaged listing
                listing = read_listing(version, self.store)
                found |= {path for path, name in contents.items() if listing.get(path) == name}
        return found

    def _content(self, path: str) -> str | None:
        """The object that a file is a copy of, or a link to; its content is read only if an object is of its size."""
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            target = Path(os.readlink(path))
            return f"{target.parent.name}{target.name}" if target.parent.parent == self.store else None
        if not stat.S_ISREG(status.st_mode) or status.st_size not in self._sizes:
            return None
        try:
            name = file_digest(Path(path), "md5")
        except OSError:  # that nobody may read; not ours, then
            return None
        return name if object_path(self.store, name).exists() else None

    @cached_property
    def _sizes(self) -> set[int]:
        folders = [folder.path for folder in os.scandir(self.store) if folder.is_dir()]
        return {entry.stat().st_size for folder in folders for entry in os.scandir(folder)}

    def _versions(self) -> Iterator[str]:
        if self.likely:
            yield self.likely
        listings = sorted(self.store.glob("??/*.dir"), key=lambda path: -path.stat().st_mtime)
        yield from (f"{path.parent.name}{path.name}" for path in listings)
