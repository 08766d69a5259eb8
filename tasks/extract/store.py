"""The feature store: what a backbone saw in an image is computed once and found again by the image's content."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from tasks.errors import StorageError
from tasks.extract.claims import WRITING, claimed, claims, held, leftovers, locked, storing
from tasks.extract.index import Index
from tasks.extract.keys import KEY, Hashes, find, hex_of, in_order, keys_of
from tasks.extract.parts import write_part
from tasks.place import ABOUT, note_used
from tasks.workspace import fresh_folder

__all__ = ["KEY", "FeatureStore", "keys_of"]

COMPILED = "compiled"
"""Empty file that says that features in a space are of a compiled forward pass."""
POLL = 0.2
"""Seconds between two looks at what others have done."""
LOOKED_THROUGH = 2**16
"""Keys that are looked through at once for some to claim."""


class FeatureStore:
    """Features of one *feature space*: one backbone, layer, preprocessing and precision.

    A folder of immutable Arrow files (columns ``key``: 16 bytes, ``features``: float32 ``[width]``), each of which
    appears complete or not at all, so any number of threads and processes may write and read at the same time. The
    same image in two files is harmless: the first by name counts.

    Keys are the images' MD5s, S16 ``[N]``; see `keys_of`.

    >>> store = FeatureStore.open(Path("space"), {"backbone": "resnet_32px"})
    >>> keys = keys_of(["00112233445566778899aabbccddeeff"])
    >>> store.fill(keys, 4096, compute=lambda mine: np.ones((len(mine), 3), np.float32))
    1
    >>> store.read(keys).shape
    (1, 3)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._index = Index()
        self._turn = threading.Lock()

    @classmethod
    def open(cls, folder: Path, space: dict[str, object]) -> FeatureStore:
        """Open a feature space to write to: note that it is used, and remove what killed writers have left.

        Args:
            space: what it is, written down (``space.json``) where it is not yet.

        Raises:
            StorageError: the folder cannot be written.
        """
        text = json.dumps(space, indent=2, sort_keys=True)
        with storing(folder, len(text)):
            if not folder.exists():
                with fresh_folder(folder) as filling:
                    (filling / ABOUT).write_text(text)
            elif read_about(folder) is None:
                with held(folder, WRITING) as (temporary, _):
                    temporary.write_text(text)
                    os.replace(temporary, folder / ABOUT)
            note_used(folder)
            leftovers(folder, remove=True)
        return cls(folder)

    @property
    def width(self) -> int | None:
        """Features of an image; None while there is none."""
        parts = self._refreshed().parts
        return parts[0].width if parts else None

    @property
    def count(self) -> int:
        """Images."""
        return len(self._refreshed().keys)

    @property
    def compiled(self) -> bool:
        """Whether features in here, most of them if any, are of a compiled forward pass, which rounds otherwise."""
        return (self.folder / COMPILED).exists()

    def note_compiled(self) -> None:
        """Say that features that are going to be added are of a compiled forward pass."""
        if not self.compiled:
            (self.folder / COMPILED).touch()

    @property
    def nbytes(self) -> int:
        """Bytes of all files of features."""
        return sum(part.nbytes for part in self._refreshed().parts)

    @property
    def parts(self) -> list[Path]:
        """Files of features, in the order of their names."""
        return sorted(part.path for part in self._refreshed().parts)

    def missing(self, keys: Hashes) -> np.ndarray:
        """Which images' features are not here, bool ``[N]``.

        Raises:
            StorageError: a file is damaged.
        """
        return ~self._refreshed().find(keys_of(keys))[1]

    def read(self, keys: Hashes, out: np.ndarray | None = None) -> np.ndarray:
        """Features float32 ``[N, width]`` of images in the given order.

        Args:
            out: where to put them, if not into a new array.

        Raises:
            KeyError: the features of an image are not here.
            StorageError: a file is damaged.
        """
        wanted = keys_of(keys)
        index = self._refreshed()
        rows, found = index.find(wanted)
        if not found.all():
            # Files that were being merged may have been listed neither under their old names nor under the new one.
            with ExitStack() as holding:
                with suppress(StorageError):  # whoever may only read does without
                    holding.enter_context(locked(self.folder))
                index = self._refreshed()
            rows, found = index.find(wanted)
            if not found.all():
                raise KeyError(hex_of(wanted[~found]))
        width = index.parts[0].width if index.parts else 0
        if out is None:
            out = np.empty((len(wanted), width), np.float32)
        elif out.shape != (len(wanted), width) or out.dtype != np.float32:
            raise ValueError(f"out is {out.dtype} {out.shape}, and float32 {(len(wanted), width)} are to be read")
        if len(wanted):
            index.gather(rows, out)
        return out

    def append(self, keys: Hashes, features: np.ndarray) -> None:
        """Add features float32 ``[N, width]`` of images, in one atomic step.

        Raises:
            StorageError: they could not be written, for example because the disk is full. What was there before
                stays as it was.
        """
        added = np.ascontiguousarray(keys_of(keys))
        features = np.ascontiguousarray(features, np.float32)
        if features.ndim != 2 or len(features) != len(added):
            raise ValueError(f"{len(added)} images, and features of shape {features.shape}")
        if not len(added):
            return
        known = self._index.parts
        if (width := known[0].width if known else self.width) not in (None, features.shape[1]):
            raise ValueError(f"{features.shape[1]} features an image, and those in {self.folder} have {width}")
        write_part(self.folder, [added], [features])
        note_used(self.folder)

    @contextmanager
    def claim(self, keys: Hashes, most: int) -> Iterator[np.ndarray]:
        """Take some images upon oneself that are neither here nor claimed by a living thread or process.

        The claim ends with the block or, where that does not come to its end, with the process.

        Yields:
            Their keys, each once, S16 ``[n]``, at most ``most``; none where nothing is left to claim.

        Raises:
            StorageError: the claim cannot be written, or a file is damaged.
        """
        keys = keys_of(keys)
        with ExitStack() as holding:
            with locked(self.folder):
                # First others' claims, then the files: what is done in between is met in one of them.
                with storing(self.folder):
                    taken = claims(self.folder)
                mine = self._free(keys, taken, most)
                if len(mine):
                    holding.enter_context(claimed(self.folder, mine))
            yield mine

    def wait(self, keys: Hashes, poll: float = POLL) -> None:
        """Wait until one of some images is here, or claimed by nobody living.

        Args:
            poll: seconds between two looks.
        """
        keys = keys_of(keys)
        while len(keys):
            with locked(self.folder):
                with storing(self.folder):
                    taken = claims(self.folder)
                if not self.missing(keys).all() or len(self._free(keys, taken, 1)):
                    return
            time.sleep(poll)

    def fill(self, keys: Hashes, most: int, compute: Callable[[np.ndarray], np.ndarray]) -> int:
        """Compute what is missing, together with all who do the same at this moment: nothing is computed twice, but
        for what a killed process had claimed and not yet appended.

        Args:
            most: images that are claimed, computed and appended at once.
            compute: features float32 ``[n, width]`` of keys S16 ``[n]``.

        Returns:
            How many images were computed here.
        """
        wanted, first = in_order(keys_of(keys))
        wanted = wanted[np.argsort(first)]
        computed = 0
        while len(wanted := wanted[self.missing(wanted)]):
            with self.claim(wanted, most) as mine:
                if len(mine):
                    self.append(mine, compute(mine))
                    computed += len(mine)
            if not len(mine):
                self.wait(wanted)
        return computed

    def _refreshed(self) -> Index:
        with self._turn:
            self._index = self._index.refreshed(self.folder)
            return self._index

    def _free(self, keys: np.ndarray, taken: np.ndarray, most: int) -> np.ndarray:
        """The first keys, each once, that are neither here nor taken; at most ``most``."""
        index, taken = self._refreshed(), np.sort(taken)
        mine = np.empty(0, KEY)
        for start in range(0, len(keys), LOOKED_THROUGH):
            some = keys[start : start + LOOKED_THROUGH]
            some = some[~index.find(some)[1] & ~find(taken, some)[1] & ~find(np.sort(mine), some)[1]]
            some = some[np.sort(in_order(some)[1])]
            mine = np.concatenate([mine, some[: most - len(mine)]])
            if len(mine) == most:
                break
        return mine


def read_about(folder: Path) -> dict[str, object] | None:
    """What a feature space says of itself; None where it does not, or not legibly."""
    try:
        about = json.loads((folder / ABOUT).read_text())
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) else None
