"""Keys of images: the 16 bytes of a content's MD5, side by side in one array and never one Python object each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import pandas as pd

KEY = np.dtype("S16")
"""Compare arrays of it, or view it as V16 to see bytes: an S16 item read singly loses the zeros at its end."""

Hashes: TypeAlias = "Sequence[str] | pd.Series[str] | pa.Array | pa.ChunkedArray | np.ndarray"


def keys_of(hashes: Hashes) -> np.ndarray:
    """Keys S16 ``[N]`` of contents given by the hex digits of their MD5, or as keys already.

    >>> keys_of(["00112233445566778899aabbccddeeff"]).tobytes().hex()
    '00112233445566778899aabbccddeeff'

    Raises:
        ValueError: something is not an MD5 in hex digits.
    """
    if isinstance(hashes, np.ndarray) and hashes.dtype == KEY:
        return hashes
    array = hashes if isinstance(hashes, pa.Array | pa.ChunkedArray) else pa.array(hashes, pa.large_string())
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    array = array.cast(pa.large_string())
    if not len(array):
        return np.empty(0, KEY)
    lengths = pc.min_max(pc.binary_length(array)).as_py()
    if array.null_count or lengths != {"min": 32, "max": 32}:
        raise ValueError("a content is named by the 32 hex digits of its MD5")
    _, offsets, text = array.buffers()
    begin = int(np.frombuffer(offsets, np.int64)[array.offset])
    digits = bytes(memoryview(text)[begin : begin + 32 * len(array)]).decode()
    keys = np.frombuffer(bytes.fromhex(digits), KEY)
    if len(keys) != len(array):  # fromhex skips blanks
        raise ValueError("a content is named by the 32 hex digits of its MD5")
    return keys


def hex_of(key: np.ndarray) -> str:
    """The hex digits of the first key of an array."""
    return key[:1].tobytes().hex()


def find(ordered: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where keys stand, or would stand, in an array of different keys in order.

    Returns:
        Positions int64 ``[N]`` from 0 to ``len(ordered)``, and whether the key is at that position, bool ``[N]``.
    """
    at = np.searchsorted(ordered, keys)
    if not len(ordered):
        return at, np.zeros(len(keys), bool)
    return at, ordered[np.minimum(at, len(ordered) - 1)] == keys


def in_order(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different keys in order, and where in the array each stands first (int64)."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    new = np.ones(len(keys), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return ordered[new], order[new]
