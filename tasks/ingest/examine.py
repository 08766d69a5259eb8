"""What can be known of one file from its content; runs in worker processes."""

from __future__ import annotations

import hashlib
import os
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from tasks.errors import DataError, TooLarge
from tasks.ingest.decode import decode_opened, open_image, reason, room_of
from tasks.ingest.depth import NoScale, orientation
from tasks.ingest.objects import keep
from tasks.ingest.storage import read
from tasks.limits import Limits

SMALLEST_HASHED = 32
"""Pixels of the shorter side below which a perceptual hash says nothing."""

READERS = 16
"""Files of an object store that one process waits for at once."""


class Work(NamedTuple):
    """A file to examine: its bytes, or where to read them."""

    place: str | None
    content: bytes | None


class Examined(NamedTuple):
    """What is known of a content.

    Attributes:
        hash: MD5 of the bytes, in hexadecimal; None where they could not be read.
        width, height: upright, in pixels.
        dhash: difference hash (64 bits as a signed integer); None for small or flat images.
        odd: kinds of `tasks.ingest.kinds.ODD`, each between commas.
        kind, reason: why it cannot be used; None where it can.
        stored: when its object was written (nanoseconds since the epoch); None for what the store does not have.
        mended: whether a damaged object was replaced by it just now.
    """

    hash: str | None
    size: int = 0
    width: int = 0
    height: int = 0
    format: str = ""
    mode: str = ""
    dhash: int | None = None
    odd: str = ""
    kind: str | None = None
    reason: str | None = None
    stored: int | None = None
    mended: bool = False


def examine_all(works: Sequence[Work], limits: Limits, store: Path) -> list[Examined]:
    """Examine files, and put those that can be used into a content-addressed store of DVC's layout."""
    if any(work.place and "://" in work.place for work in works):
        with ThreadPoolExecutor(READERS) as readers:
            return list(readers.map(lambda work: examine_one(work, limits, store), works))
    return [examine_one(work, limits, store) for work in works]


def examine_one(work: Work, limits: Limits, store: Path) -> Examined:
    """Examine one file; see `examine_all`."""
    try:
        content = work.content if work.content is not None else read(str(work.place), limits.bytes)
    except TooLarge as error:
        return Examined(None, kind="too_large", reason=str(error))
    except (OSError, DataError) as error:
        return Examined(None, kind="missing", reason=f"cannot be read: {_why_missing(work.place, error)}")
    if len(content) > limits.bytes:
        return Examined(None, kind="too_large", reason=f"more than {limits.bytes:,} bytes (ingest.limits.bytes)")
    examined = examine(content, limits)
    if examined.kind is None and examined.hash is not None:
        stored, mended = keep(content, examined.hash, store)
        return examined._replace(stored=stored, mended=mended)
    return examined


def _why_missing(place: str | None, error: Exception) -> str:
    """A link to content that git-annex keeps elsewhere is a usual reason, and has a usual remedy."""
    if place and "://" not in place and os.path.islink(place) and "annex/objects" in os.readlink(place):
        return "its content is not here: run `git annex get`"
    return getattr(error, "strerror", None) or str(error)


def examine(content: bytes, limits: Limits) -> Examined:
    """Decode a file's bytes once and tell what is known of them."""
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if not content:
        return Examined(digest, kind="empty", reason="zero bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = open_image(content, limits)
            odd, mode, kind = oddities(opened), opened.mode, opened.format or ""
            with room_of(opened, limits):
                image = decode_opened(opened, limits)
        hash = difference_hash(image)
        odd += ["one_colour"] if hash is None and is_one_colour(image) else []
    except Exception as error:  # Pillow's plugins raise some twenty different types on malformed files
        return Examined(digest, len(content), kind=_kind_of(error), reason=reason(error))
    return Examined(digest, len(content), *image.size, kind, mode, hash, f",{','.join(odd)},")


def _kind_of(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not_an_image"
    if isinstance(error, NoScale):
        return "no_scale"
    if isinstance(error, Image.DecompressionBombError | TooLarge):
        return "too_large"
    text = str(error).lower()
    ended = "truncated" in text or "premature" in text or "unexpected end" in text or isinstance(error, EOFError)
    return "truncated" if ended else "undecodable"


def oddities(opened: Image.Image) -> list[str]:
    """Kinds of `tasks.ingest.kinds.ODD` that the header of an opened image shows."""
    deep = opened.mode.startswith(("I", "F")) or any(";16" in str(tile) for tile in getattr(opened, "tile", ()))
    found = {
        "rotated": orientation(opened) > 1,
        "alpha": opened.has_transparency_data,
        "palette": opened.mode in ("P", "PA"),
        "cmyk": opened.mode in ("CMYK", "YCbCr", "LAB", "HSV"),
        "deep": deep,
        "animated": _is_animated(opened),
    }
    return [kind for kind, is_so in found.items() if is_so]


def _is_animated(opened: Image.Image) -> bool:
    try:
        return bool(getattr(opened, "is_animated", False))
    except Exception:  # a damaged later frame; the first one, which is all that is taken, may be whole
        return False


def difference_hash(image: Image.Image) -> int | None:
    """Perceptual hash of 64 bits: is each pixel of the 9×8 grey thumbnail darker than its right neighbour?

    Source: N. Krawetz, "Kind of like that", 2013. Small and nearly flat images have none: theirs would all be alike.
    """
    if min(image.size) < SMALLEST_HASHED:
        return None
    thumbnail = image.convert("L").resize((9, 8), Image.Resampling.BOX)
    grey = np.frombuffer(thumbnail.tobytes(), np.uint8).reshape(8, 9)
    bits = grey[:, 1:] > grey[:, :-1]
    if not 8 <= np.count_nonzero(bits) <= 56:
        return None
    return int.from_bytes(np.packbits(bits).tobytes(), "big", signed=True)


def is_one_colour(image: Image.Image) -> bool:
    """Whether all pixels are the same."""
    return all(low == high for low, high in image.getextrema())  # type: ignore[misc]


def begin_work(parent: int) -> None:
    """Settle a worker process: it ends when the process that feeds it is killed, and decoders' complaints, which
    their C libraries print, go nowhere; what counts of them is in the findings."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
