"""Compressed files, told by how they begin and not by what they are called."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import IO, Any


def _zstd(raw: IO[bytes]) -> Any:
    """Arrow's reader: that of `zstandard` takes a file that is cut off for one that ends."""
    import pyarrow as pa  # which a configuration is read without

    return pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")


COMPRESSIONS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"\x28\xb5\x2f\xfd": _zstd,
}
"""How compressed files begin, and what reads them."""

DAMAGED = (zlib.error, lzma.LZMAError, EOFError)
"""What reading a damaged one raises, beside OSError without a number."""


def is_compressed(start: bytes) -> bool:
    """Whether a file that begins like this is."""
    return start.startswith(tuple(COMPRESSIONS))


def uncompressed(raw: IO[bytes], start: bytes) -> AbstractContextManager[IO[bytes]]:
    """The content of a file that begins like this, as a stream; of one that is not compressed, the file itself."""
    unpack = next((unpack for magic, unpack in COMPRESSIONS.items() if start.startswith(magic)), nullcontext)
    return unpack(raw)
