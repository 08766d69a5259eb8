"""Making room among feature spaces, safe while others read and write them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from tasks.extract.claims import WRITING, claims, is_dead, leftovers, locked, storing
from tasks.extract.keys import in_order
from tasks.extract.parts import DamagedPart, Part, open_part, write_part
from tasks.extract.upkeep import DAMAGED, last_used, part_paths, space_folders

SMALL, LARGE = 16 * 2**20, 64 * 2**20
"""Parts of fewer bytes are merged, into parts of about so many."""
DAY = 86_400.0

Group: TypeAlias = list[tuple[Part, np.ndarray]]
"""Parts, and which of their rows, bool ``[N]``, are read from them and not from another part."""


@dataclass(frozen=True)
class Cleared:
    """Something that was cleared away, or would be."""

    folder: Path
    what: str
    nbytes: int


def clear(root: Path, unused_for: float | None = None, dry_run: bool = False) -> Iterator[Cleared]:
    """Remove what nobody will read again, and merge small parts, in all feature spaces of a folder.

    Args:
        unused_for: days after which a whole space goes that no run has opened; by default none does.
        dry_run: change nothing, and tell what would be.

    Raises:
        StorageError: the disk is full, or a space cannot be written.
    """
    now, kept = time.time(), []
    for folder in sorted(root.glob(".*")):  # begun or half removed, by a process that was killed
        if folder.is_dir() and now - folder.stat().st_mtime > DAY:
            yield Cleared(folder, "left by a process that was killed", _remove(folder, dry_run))
    for folder in space_folders(root):
        if unused_for is not None and now - last_used(folder) >= unused_for * DAY:
            cleared = _clear_space(folder, unused_for, dry_run)
            yield cleared
            if cleared.nbytes:
                continue
        yield from _clear_leftovers(folder, dry_run)
        kept.append(folder)
    for folder in kept:  # at last, for it needs room itself
        yield from merge(folder, dry_run)


def merge(folder: Path, dry_run: bool = False) -> Iterator[Cleared]:
    """Write the images of small parts, and of such as repeat others', into a few large ones.

    Whoever has the old files open reads on in them; whoever comes later finds the new ones.

    Raises:
        StorageError: the disk is full, or the space cannot be written.
    """
    try:
        groups = _groups([open_part(path) for path in part_paths(folder)])
        if dry_run and groups:
            yield Cleared(folder, f"{sum(map(len, groups)):,} files merged into {len(groups):,}", 0)
        for group in [] if dry_run else groups:
            yield _merge_group(folder, group)
    except FileNotFoundError:  # merged by another at the same time
        return
    except DamagedPart as damage:
        yield Cleared(folder, f"not merged, for {damage.path.name} is damaged ({damage.what}): see verify", 0)


def _merge_group(folder: Path, group: Group) -> Cleared:
    with locked(folder):
        # Not from the mapped files: what is damaged must not get a new, valid checksum.
        parts = [open_part(part.path, mapped=False) for part, _ in group]
        for part in parts:
            part.check()
        kept = [(part, keep) for part, (_, keep) in zip(parts, group, strict=True) if keep.any()]
        after = 0
        if kept:
            keys, features = ([getattr(part, of)[keep] for part, keep in kept] for of in ("keys", "features"))
            after = write_part(folder, keys, features).stat().st_size
        with storing(folder):
            for part in parts:
                part.path.unlink()
    return Cleared(folder, f"{len(group):,} files merged into {min(1, after)}", sum(p.nbytes for p in parts) - after)


def _groups(parts: Sequence[Part]) -> list[Group]:
    """Parts to be merged into one each, given in the order of their names."""
    if not parts:
        return []
    ends = np.cumsum([len(part.keys) for part in parts])
    counts = np.zeros(ends[-1], bool)
    counts[in_order(np.concatenate([part.keys for part in parts]))[1]] = True
    several = sum(part.nbytes < SMALL for part in parts) > 1
    groups: list[Group] = []
    size = LARGE
    for part, keep in zip(parts, np.split(counts, ends[:-1]), strict=True):
        if keep.all() and not (several and part.nbytes < SMALL):
            continue
        if size + part.nbytes > LARGE:
            groups.append([])
            size = 0
        groups[-1].append((part, keep))
        size += part.nbytes
    return [group for group in groups if len(group) > 1 or not group[0][1].all()]


def _clear_leftovers(folder: Path, dry_run: bool) -> Iterator[Cleared]:
    for what, paths in (("half-written files and claims of dead processes", leftovers(folder)),
                        ("damaged files that were moved aside", sorted(folder.glob(f"{DAMAGED}*")))):  # fmt: skip
        if paths:
            nbytes = sum(path.stat().st_size for path in paths if path.exists())
            yield Cleared(folder, f"{len(paths):,} {what} removed", nbytes)
            if not dry_run:
                for path in paths:
                    with storing(folder):
                        path.unlink(missing_ok=True)


def _clear_space(folder: Path, unused_for: float, dry_run: bool) -> Cleared:
    with locked(folder):
        days = (time.time() - last_used(folder)) / DAY
        writing = any(not is_dead(path) for path in folder.glob(f"{WRITING}*"))
        if days < unused_for or writing or len(claims(folder)):
            return Cleared(folder, "kept, for it is being used", 0)
        doomed = folder if dry_run else folder.rename(folder.with_name(f".removed-{folder.name}"))
    return Cleared(folder, f"not used for {days:,.0f} days: removed", _remove(doomed, dry_run))


def _remove(folder: Path, dry_run: bool) -> int:
    """Remove a folder; returns the bytes of its files."""
    nbytes = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            nbytes += path.stat().st_size if path.is_file() else 0
    if not dry_run:
        shutil.rmtree(folder, ignore_errors=True)
    return nbytes
