"""Looking after feature spaces: which there are, and whether their files are what was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.errors import ConfigurationError
from tasks.extract.claims import storing
from tasks.extract.keys import KEY, in_order
from tasks.extract.parts import DamagedPart, Part, open_part
from tasks.extract.store import read_about
from tasks.machine import usable_cores
from tasks.place import ABOUT, note_repaired
from tasks.progress import progress

DAMAGED = "damaged-"
"""How the name of a part begins that was moved aside."""


@dataclass(frozen=True)
class Space:
    """A feature space as it lies on the disk.

    Attributes:
        about: what it says of itself; None where that is missing or not legible.
        images, nbytes: what can be read of it.
        unreadable: parts that cannot.
        used: when it was last read or written to, in seconds since the epoch.
    """

    folder: Path
    about: dict[str, object] | None
    images: int
    nbytes: int
    unreadable: int
    used: float


@dataclass(frozen=True)
class Health:
    """What a check of a feature space has found.

    Attributes:
        parts, images: that are sound.
        damage: parts that are not.
        remarks: what is odd, and yet no damage.
    """

    folder: Path
    parts: int
    images: int
    damage: tuple[DamagedPart, ...]
    remarks: tuple[str, ...]


def space_folders(root: Path, beginning: str = "") -> list[Path]:
    """Folders of all feature spaces whose fingerprints begin in a certain way.

    Raises:
        ConfigurationError: there is none, although one was asked for.
    """
    found = [
        path for path in sorted(root.glob(f"{beginning}*")) if path.is_dir() and not path.name.startswith(".")
    ]  # fmt: skip
    if beginning and not found:
        raise ConfigurationError(
            f"no feature space begins with {beginning!r} in {root}; `headstart features ls` shows which there are"
        )
    return found


def describe(folder: Path) -> Space:
    """What is known of a feature space without reading its features."""
    parts, damage = _opened(folder)
    return Space(
        folder=folder,
        about=read_about(folder),
        images=_different(parts),
        nbytes=sum(part.nbytes for part in parts),
        unreadable=len(damage),
        used=last_used(folder),
    )


def last_used(folder: Path) -> float:
    """When a feature space was last read or written to, in seconds since the epoch."""
    about = folder / ABOUT
    return (about if about.exists() else folder).stat().st_mtime


def part_paths(folder: Path) -> list[Path]:
    """The files of features, in the order of their names."""
    return sorted(folder.glob("part-*.arrow"))


def verify(folder: Path) -> Health:
    """Read every byte of a feature space's features, and find all that is not as it was written."""
    paths = part_paths(folder)
    with progress("verify", len(paths), "files") as advance, ThreadPoolExecutor(usable_cores()) as threads:
        results = []
        for result in threads.map(_examined, paths):
            results.append(result)
            advance(1)
    damage = [result for result in results if isinstance(result, DamagedPart)]
    sound = [result for result in results if isinstance(result, _Sound)]
    images: Counter[int] = Counter()
    for each in sound:
        images[each.width] += len(each.keys)
    usual = max(images, key=lambda width: images[width], default=0)
    damage += [
        DamagedPart(each.path, f"{each.width} features an image, and {usual} elsewhere")
        for each in sound
        if each.width != usual
    ]
    sound = [each for each in sound if each.width == usual]
    remarks = [] if read_about(folder) else [f"{ABOUT} is missing or not legible; the next run that uses it mends that"]
    if odd := sum(each.odd for each in sound):
        remarks.append(f"{odd:,} images have features that are not finite: infinite, or no numbers")
    return Health(folder, len(sound), _different(sound), tuple(sorted(damage, key=lambda d: d.path)), tuple(remarks))


def move_aside(damage: Sequence[DamagedPart]) -> None:
    """Take damaged parts out of their feature space, so that the next run computes their images again."""
    for part in damage:
        with storing(part.path.parent):
            part.path.rename(part.path.with_name(DAMAGED + part.path.name))
            note_repaired(part.path.parent)


@dataclass(frozen=True, eq=False)
class _Sound:
    path: Path
    keys: np.ndarray
    width: int
    odd: int


def _examined(path: Path) -> _Sound | DamagedPart | None:
    """A sound part, a damaged one, or None where it has gone meanwhile."""
    try:
        part = open_part(path, mapped=False)
        part.check()
    except FileNotFoundError:
        return None
    except DamagedPart as damage:
        return damage
    odd = len(part.keys) - int(np.isfinite(part.features).all(1).sum())
    return _Sound(path, part.keys.copy(), part.width, odd)


def _opened(folder: Path) -> tuple[list[Part], list[DamagedPart]]:
    parts, damage = [], []
    for path in part_paths(folder):
        try:
            parts.append(open_part(path))
        except FileNotFoundError:
            continue
        except DamagedPart as error:
            damage.append(error)
    return parts, damage


def _different(parts: Sequence[Part | _Sound]) -> int:
    """Images, each counted once."""
    return len(in_order(np.concatenate([np.empty(0, KEY), *(part.keys for part in parts)]))[0])
