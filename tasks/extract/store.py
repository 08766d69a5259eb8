"""The feature store: what a backbone saw in an image is computed once and found again by the image's content."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.workspace import fresh_folder


class FeatureStore:
    """Features of one *feature space*: one backbone, layer, preprocessing and precision.

    A folder of immutable Arrow files (columns ``hash``: str, ``features``: list<float32>[width]), each of which
    appears complete or not at all, so any number of processes may write and read at the same time. The same
    image in two files is harmless; the first one counts.

    >>> store = FeatureStore(Path("space"))
    >>> store.append(["ab12"], np.ones((1, 3), np.float32))
    >>> store.read(["ab12"]).shape
    (1, 3)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def open(cls, folder: Path, space: dict[str, object]) -> FeatureStore:
        """Open a feature space, and write down what it is (``space.json``) when it is new."""
        if not folder.exists():
            with fresh_folder(folder) as filling:
                (filling / "space.json").write_text(json.dumps(space, indent=2, sort_keys=True))
        return cls(folder)

    def known(self) -> set[str]:
        """Content hashes of the images whose features are here."""
        return {hash for part in self._parts() for hash in part.column("hash").to_pylist()}

    def append(self, hashes: Sequence[str], features: np.ndarray) -> None:
        """Add features float32 ``[N, width]`` of images, in one atomic step."""
        width = features.shape[1]
        values = pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1), pa.float32()), width)
        table = pa.table({"hash": pa.array(hashes, pa.string()), "features": values})
        temporary = self.folder / f".{uuid.uuid4().hex}"
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        os.replace(temporary, self.folder / f"part-{uuid.uuid4().hex}.arrow")

    def read(self, hashes: Sequence[str]) -> np.ndarray:
        """Features float32 ``[N, width]`` of images in the given order.

        Raises:
            KeyError: the features of an image are not here.
        """
        parts = self._parts()
        place: dict[str, tuple[int, int]] = {}
        for number, part in enumerate(parts):
            for row, hash in enumerate(part.column("hash").to_pylist()):
                place.setdefault(hash, (number, row))
        where = np.array([place[hash] for hash in hashes]).reshape(-1, 2)
        matrix = np.empty((len(hashes), self._width(parts)), np.float32)
        for number, part in enumerate(parts):
            chosen = np.flatnonzero(where[:, 0] == number)
            if len(chosen):
                matrix[chosen] = _as_matrix(part)[where[chosen, 1]]
        return matrix

    def _parts(self) -> list[pa.Table]:
        files = sorted(self.folder.glob("part-*.arrow"))
        return [pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in files]

    @staticmethod
    def _width(parts: Sequence[pa.Table]) -> int:
        return parts[0].schema.field("features").type.list_size if parts else 0


def _as_matrix(part: pa.Table) -> np.ndarray:
    """A view of the memory-mapped file, not a copy."""
    (chunk,) = part.column("features").chunks
    return chunk.flatten().to_numpy(zero_copy_only=True).reshape(len(part), -1)
