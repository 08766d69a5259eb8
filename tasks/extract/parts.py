"""The files of a feature space: each written once, appearing whole or not at all, and never changed."""

from __future__ import annotations

import os
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.errors import StorageError
from tasks.extract.claims import WRITING, held, storing
from tasks.extract.keys import KEY


class DamagedPart(StorageError):
    """A file of a feature space is not what was written.

    Attributes:
        path: of the file.
        what: is wrong with it.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path} is damaged ({what}). `headstart features verify` finds all damage, and with --repair moves it "
            "aside, so that the next run computes those images again"
        )
        self.path, self.what = path, what


@dataclass(frozen=True, eq=False)
class Part:
    """A file of features, mapped into memory: it stays readable after the file's name is gone.

    Attributes:
        keys: S16 ``[N]``.
        features: float32 ``[N, width]``.
        crc: CRC-32 of keys and features as they were when written.
        nbytes: of the file.
    """

    path: Path
    keys: np.ndarray
    features: np.ndarray
    crc: int
    nbytes: int

    @property
    def width(self) -> int:
        """Features of an image."""
        return self.features.shape[1]

    def check(self) -> None:
        """Read all of it, and compare it with what was written.

        Raises:
            DamagedPart: it is something else.
        """
        if checksum([self.keys], [self.features]) != self.crc:
            raise DamagedPart(self.path, "its content has changed since it was written")


def checksum(keys: Sequence[np.ndarray], features: Sequence[np.ndarray]) -> int:
    """CRC-32 of keys, one array after another, and of features likewise."""
    crc = 0
    for array in (*keys, *features):
        crc = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data, crc)
    return crc


def write_part(folder: Path, keys: Sequence[np.ndarray], features: Sequence[np.ndarray]) -> Path:
    """Write a part: the arrays of keys, one after another, and as many of features.

    Args:
        keys: S16 ``[n]`` each.
        features: float32 ``[n, width]`` each.

    Returns:
        Its path.

    Raises:
        StorageError: it could not be written; nothing of it stays.
    """
    schema = pa.schema(
        [("key", pa.binary(KEY.itemsize)), ("features", pa.list_(pa.float32(), features[0].shape[1]))],
        {"crc32": f"{checksum(keys, features):08x}", "written by": _versions()},
    )
    table = pa.Table.from_batches(
        [_batch(some, theirs, schema) for some, theirs in zip(keys, features, strict=True)], schema
    ).combine_chunks()
    final = folder / f"part-{uuid.uuid4().hex}.arrow"
    with storing(folder, table.nbytes), held(folder, WRITING) as (temporary, descriptor):
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            writer.write_table(table)
        os.fsync(descriptor)  # some disks say only here that they are full
        os.replace(temporary, final)
    return final


def open_part(path: Path, mapped: bool = True) -> Part:
    """A part whose features are read when they are asked for.

    Args:
        mapped: False reads all of it now: the only way to survive a disk that cannot.

    Raises:
        FileNotFoundError: it has gone.
        DamagedPart: it is no part.
    """
    try:
        # The mapping outlives the closed file, so that many parts do not use up the process's descriptors.
        with pa.memory_map(str(path)) if mapped else pa.OSFile(str(path)) as source:
            batches = pa.ipc.open_file(source)
            nbytes = source.size()
            if batches.num_record_batches != 1:
                raise ValueError(f"{batches.num_record_batches} record batches in place of one")
            batch = batches.get_batch(0)
        return Part(path, *_views(batch), int(batch.schema.metadata[b"crc32"], 16), nbytes)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = (str(error).splitlines() or [""])[0][:120]
        raise DamagedPart(path, f"it cannot be read as a part: {what or type(error).__name__}") from error


def _views(batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    if batch.schema.names != ["key", "features"] or batch.schema.field("key").type != pa.binary(KEY.itemsize):
        raise ValueError(f"its columns are {', '.join(batch.schema.names)}")
    key, features = batch.columns
    width = features.type.list_size
    if features.type.value_type != pa.float32() or not width:
        raise ValueError(f"its features are {features.type}")
    values = np.frombuffer(features.values.buffers()[1], np.float32, len(batch) * width)
    return np.frombuffer(key.buffers()[1], KEY, len(batch)), values.reshape(len(batch), width)


def _batch(keys: np.ndarray, features: np.ndarray, schema: pa.Schema) -> pa.RecordBatch:
    width = features.shape[1]
    column = pa.FixedSizeBinaryArray.from_buffers(schema.field("key").type, len(keys), [None, pa.py_buffer(keys)])
    values = pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1), pa.float32()), width)
    return pa.record_batch([column, values], schema=schema)


@cache
def _versions() -> str:
    told = []
    for package in ("headstart", "torch", "numpy", "pyarrow"):
        try:
            told.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(told)
