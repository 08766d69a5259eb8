"""Where in a feature space's files an image's features stand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from tasks.errors import StorageError
from tasks.extract.keys import KEY, find, in_order
from tasks.extract.parts import DamagedPart, Part, open_part

BLOCK = 2**20
"""Bytes of features that are copied at a time where each goes to another place: they stay in the processor's cache."""
TRIES = 100


@dataclass(frozen=True, eq=False)
class Index:
    """The keys of some parts in order, and the row of each: about 24 bytes an image.

    Never changed, so that any thread may read on while another looks for newer parts. Where a key is in several
    parts, the first of these by name counts: all who see the same files read the same features.

    Attributes:
        parts: in the order in which they were found; rows are counted through all of them.
        keys: S16 ``[N]``, different and in order.
        rows: int64 ``[N]``.
    """

    parts: tuple[Part, ...] = ()
    keys: np.ndarray = field(default_factory=lambda: np.empty(0, KEY))
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def refreshed(self, folder: Path) -> Index:
        """The index of the parts that are in a folder now; only new ones are read.

        Raises:
            DamagedPart: a part cannot be read, or has another width than the rest.
        """
        for _ in range(TRIES):
            names = _names(folder)
            known = {part.path.name: part for part in self.parts}
            index = self if names.issuperset(known) else Index()
            with suppress(FileNotFoundError):  # merged with others since the names were listed
                new = [known.get(name) or open_part(folder / name) for name in sorted(names - index._names)]
                return index._extended(new) if new else index
        raise StorageError(
            f"{folder}: a file that is listed cannot be found, again and again. Is it a link to nowhere?"
        )

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of keys, int64 ``[N]``, and whether they are here, bool ``[N]``; rows of others mean nothing."""
        at, found = find(self.keys, keys)
        return self.rows[np.minimum(at, len(self.rows) - 1)] if len(self.rows) else at, found

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy the features of rows, int64 ``[N]``, to ``out``, float32 ``[N, width]``."""
        part = np.searchsorted(self._starts, rows, "right") - 1
        within = rows - self._starts[part]
        changes = np.flatnonzero(np.diff(part)) + 1
        if len(changes) * 8 < len(part):  # long stretches of one part, as in the order of writing
            for begin, end in zip([0, *changes], [*changes, len(part)], strict=True):
                features = self.parts[part[begin]].features
                # NumPy goes through a copy unless it is told not to care for rows out of bounds.
                np.take(features, within[begin:end], axis=0, out=out[begin:end], mode="clip")
            return
        order, most = np.argsort(rows, kind="stable"), max(1, BLOCK // (4 * out.shape[1]))
        stretches = np.split(order, np.flatnonzero(np.diff(part[order])) + 1)
        for stretch in stretches:
            features = self.parts[part[stretch[0]]].features
            for start in range(0, len(stretch), most):
                places = stretch[start : start + most]
                out[places] = features[within[places]]

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(part.path.name for part in self.parts)

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *(len(part.keys) for part in self.parts)])[:-1]

    def _extended(self, new: Sequence[Part]) -> Index:
        """With more parts, in the order of their names."""
        for part in new:
            if part.width != (self.parts or new)[0].width:
                raise DamagedPart(part.path, f"{part.width} features an image, and {new[0].width} elsewhere")
        parts = (*self.parts, *new)
        begin = sum(len(part.keys) for part in self.parts)
        keys, first = in_order(np.concatenate([part.keys for part in new]))
        rows = first + begin
        if not self.parts:
            return Index(parts, keys, rows)
        at, twice = find(self.keys, keys)
        merged = Index(parts, np.insert(self.keys, at[~twice], keys[~twice]),
                       np.insert(self.rows, at[~twice], rows[~twice]))  # fmt: skip
        if twice.any():
            merged._prefer(keys[twice], rows[twice])
        return merged

    def _prefer(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Let other rows of some keys count, where their part's name comes first."""
        at, _ = find(self.keys, keys)
        rank = np.argsort(np.argsort([part.path.name for part in self.parts]))
        before, after = (rank[np.searchsorted(self._starts, some, "right") - 1] for some in (self.rows[at], rows))
        self.rows[at[after < before]] = rows[after < before]


def _names(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {name for entry in entries if (name := entry.name).startswith("part-") and name.endswith(".arrow")}
    except FileNotFoundError as error:
        raise StorageError(f"{folder} has gone: run again, and its features are computed anew") from error
