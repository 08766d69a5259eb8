"""What of a version the store does not have whole, and what ``data/`` can give back of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from tasks.fingerprint import file_digest
from tasks.ingest.objects import damaged_folder, find_faults, keep_file, set_aside, tell_mended
from tasks.progress import tell
from tasks.workspace import Workspace


def find_lacking(names: Collection[str], listing: Mapping[str, str], workspace: Workspace, store: Path) -> list[str]:
    """Read objects, all of each, and see to those that are missing or damaged.

    A damaged object is set aside. Where ``data/`` still has its content, that is put into the store.

    Args:
        names: contents, and listings.
        listing: MD5 by path of the version that they belong to.

    Returns:
        Those that are still not there, sorted.
    """
    missing, damaged = find_faults(names, store)
    for name in damaged:
        set_aside(name, store)
    back = _taken_back({*missing, *damaged}, listing, workspace.data, store) if missing or damaged else set()
    if mended := sorted(back.intersection(damaged)):
        tell_mended("verify", mended, str(workspace.data), store)
    if lost := sorted({*damaged} - back):
        tell(
            f"verify\tdamaged files, taken out of the store: {len(lost):,}, the first: {lost[0]}; "
            f"they are kept in {damaged_folder(store)}"
        )
    return sorted({*missing, *damaged} - back)


def _taken_back(lacking: set[str], listing: Mapping[str, str], data: Path, store: Path) -> set[str]:
    found: set[str] = set()
    for path, name in listing.items():
        if name in lacking and name not in found:
            with suppress(OSError):
                if (data / path).is_file() and file_digest(data / path, "md5") == name:
                    found.add(keep_file(data / path, store))
    return found & lacking
