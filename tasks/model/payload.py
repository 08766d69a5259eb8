"""One image of a request, as people send them: base64 in its dialects, or what only Python has.

What comes over the network never names a file of this machine, and no address is ever fetched.
"""

from __future__ import annotations

import base64
import binascii
import math
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from PIL import Image

from tasks.errors import DataError, TooLarge
from tasks.ingest.decode import ImageLike
from tasks.limits import Limits

SERVERS = frozenset(["__pyfunc_model_path__", "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"])
"""Variables that MLflow's scoring server sets."""

KEYS = ("b64", "image", "bytes")
"""Where an image stands in an object: as TensorFlow Serving has it, as our column, as in Parquet files of the Hub."""

_URL_SAFE, _WHITESPACE = bytes.maketrans(b"-_", b"+/"), b" \t\r\n"


def is_serving() -> bool:
    """Whether this process answers requests from elsewhere: MLflow's server, or MLServer."""
    return not SERVERS.isdisjoint(os.environ) or "mlserver" in sys.modules


def read_image(entry: Any, limits: Limits) -> ImageLike:
    """An image as `tasks.ingest.decode` takes it.

    Args:
        entry: bytes of an image file, the same in base64, an object that holds either (`KEYS`); in Python also a path,
            a Pillow image or an array.

    Raises:
        TooLarge: it has more bytes than allowed.
        DataError: it is none of these.
    """
    if isinstance(entry, dict):
        entry = next((entry[key] for key in KEYS if key in entry), entry)
    match entry:
        case bytes() | bytearray() | memoryview():
            return bytes(entry)
        case str():
            return _read_text(entry, limits)
        case Path() | Image.Image() | np.ndarray() if not is_serving():
            return entry
        case list():
            # MLflow makes rows of a bare array; each would pass for a small grey image.
            raise DataError("a list is no image: send the base64 of an image file, or an array in a column 'image'")
        case None | float() if entry is None or math.isnan(entry):  # which pandas makes of null beside others
            raise DataError("null is no image: send the base64 of an image file")
        case _:
            raise DataError(f"a value of type {type(entry).__name__} is no image: send the base64 of an image file")


def _read_text(text: str, limits: Limits) -> ImageLike:
    if not text.strip():
        raise DataError("an empty text is no image: send the base64 of an image file")
    if not is_serving() and os.path.isfile(text):  # unlike Path's, false for what is too long to be a name
        return Path(text)
    try:
        return decode_base64(text, limits)
    except (ValueError, binascii.Error) as error:
        other = "opened here as a path or an address" if is_serving() else "a path that exists here"
        raise DataError(f"{text[:60]!r} is neither the base64 of an image file nor {other}") from error


def decode_base64(text: str, limits: Limits) -> bytes:
    """Base64 with either alphabet, with or without line ends, padding and ``data:...;base64,`` before it.

    Raises:
        TooLarge: there are more bytes than allowed.
        ValueError: it is none.
    """
    if text.lstrip()[:5].lower() == "data:":
        kind, _, text = text.partition(",")
        if not kind.lower().endswith(";base64"):
            raise ValueError("data that is not in base64")
        text = unquote(text)
    packed = text.encode("ascii").translate(_URL_SAFE, delete=_WHITESPACE).rstrip(b"=")
    if (size := len(packed) * 3 // 4) > limits.bytes:
        raise TooLarge(f"{size:,} bytes are too much; the limit is {limits.bytes:,} (ingest.limits.bytes)")
    return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
