"""Images of more than 8 bits per channel, and how their values become brightness.

Nothing in most files says how many bits are used of those that there is room for: cameras and scanners put 12 bits,
and careless programs 8, into 16. Stretching each image to its own brightest pixel would make all equally bright, so the
values are read in the smallest usual range that holds them: of 8, 12 or 16 bits (or all 32).
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngImageFile

from tasks.errors import DataError

BITS = (8, 12, 16, 32)
"""How many bits the values of deep images are taken to have."""

OVERSHOOT = 0.1
"""Share by which floats may leave their range, as they do after resampling; what leaves it is clipped."""

FEWEST_LEVELS = 8
"""Of the 256 levels, as many an image of differing values must span."""

STATED = (281, 341)
"""TIFF's MaxSampleValue and SMaxSampleValue: the largest value of a series, which one dark image may not reach."""

BITS_PER_SAMPLE = 258
PHOTOMETRIC, NEGATIVE = 262, 0
"""TIFF's PhotometricInterpretation, and the value that says that white is zero."""

NATIVE = ";16L" if sys.byteorder == "little" else ";16B"


class NoScale(DataError):
    """Nothing says how bright the values of a deep image are."""


def to_eight_bits(opened: Image.Image) -> Image.Image:
    """An image of more than 8 bits per channel with 8; any other as it is. `tasks.ingest.decode.decode` says the rule.

    Of colours Pillow reads the high bytes only. Where those are suspiciously dark or equal, the low ones are read too.

    Raises:
        NoScale: values are negative, no numbers or beyond 16 bits (floats), or next to nothing is left of them.
    """
    if opened.mode.startswith("F"):
        levels = _from_floats(np.asarray(opened), _stated(opened))
    elif opened.mode.startswith("I"):
        levels = _from_integers(np.asarray(opened).astype(np.int64), _stated(opened))
    elif (values := _deep_colours(opened)) is not None:
        levels = _from_integers(values, _stated(opened))
    else:
        return opened
    if levels.ndim == 2 and _number(getattr(opened, "tag_v2", {}).get(PHOTOMETRIC, 1)) == NEGATIVE:
        levels = 255 - levels
    image = Image.fromarray(levels)
    image = image if levels.ndim == 2 or image.mode == opened.mode else Image.fromarray(levels, opened.mode)
    image.getexif()[ExifTags.Base.Orientation] = orientation(opened)
    return image


def orientation(opened: Image.Image) -> int:
    """How an image lies, from 1 to 8 as EXIF counts; 1, as it is, where its file does not say so in any way that can be
    read.

    Raises:
        Exception: of some twenty types, from Pillow, where a PNG has to be decoded to find its metadata, and cannot be.
    """
    if isinstance(opened, PngImageFile) and "exif" not in opened.info:
        opened.load()  # as Pillow does to look behind the pixels; of what is wrong with these it tells but once
    try:
        stated = opened.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow's of metadata that are none; the pixels may be whole all the same
        return 1
    return stated if stated in range(1, 9) else 1


def _stated(opened: Image.Image) -> float:
    """The largest value that the file knows of; 0 where it says nothing."""
    tags: Any = getattr(opened, "tag_v2", {})
    bits = _number(tags.get(BITS_PER_SAMPLE))
    packed = 2**bits - 1 if 8 < bits < 16 else 0.0
    return max(packed, *(_number(tags.get(tag)) for tag in STATED))


def _deep_colours(opened: Image.Image) -> np.ndarray | None:
    """The values ``[H, W, 3 or 4]`` of 16-bit colours that need looking at; None where their high bytes will do."""
    raw = _raw_mode(opened)
    if ";16" not in raw or opened.mode not in ("RGB", "RGBA", "CMYK") or raw.startswith("LA"):
        return None
    source, tile = getattr(opened, "filename", "") or getattr(opened, "fp", None), opened.tile[0]  # type: ignore[attr-defined]
    high = np.asarray(opened)
    colours = high[..., :3]
    if int(colours.max()) >= 16 and any(int(np.ptp(colours[..., band])) for band in range(3)):
        return None
    return high.astype(np.int64) << 8 | np.asarray(_low_bytes(source, tile, raw))


def _raw_mode(opened: Image.Image) -> str:
    tiles = getattr(opened, "tile", [])
    arguments = tiles[0].args if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _low_bytes(source: Any, tile: Any, raw: str) -> Image.Image:
    """The image read once more, by a decoder that is told that the bytes of each value lie the other way round."""
    if not isinstance(source, str | bytes):
        source.seek(0)
    again = Image.open(source)
    order = raw.replace(";16N", NATIVE)
    swapped = order.replace(";16L", ";16B") if ";16L" in order else order.replace(";16B", ";16L")
    arguments = (swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped
    again.tile = [each._replace(args=arguments) for each in again.tile]  # type: ignore[attr-defined]
    again.load()
    return again


def _from_integers(values: np.ndarray, stated: float) -> np.ndarray:
    colours = values[..., :3] if values.ndim == 3 else values  # not what is transparent
    if colours.min() < 0:
        raise NoScale(f"its values begin at {colours.min():,}, and nothing says how bright that is")
    largest = max(int(colours.max()), min(int(stated), 2**32 - 1))
    bits = next(bits for bits in BITS if largest < 2**bits)
    levels = (values >> (bits - 8)).clip(0, 255).astype(np.uint8)
    _check_levels(colours, levels[..., :3] if values.ndim == 3 else levels)
    return levels


def _from_floats(values: np.ndarray, stated: float) -> np.ndarray:
    if not np.isfinite(values).all():
        raise NoScale("some of its values are no numbers (NaN or infinite)")
    lowest, largest = float(values.min()), max(float(values.max()), stated)
    ranges = [(1.0, 255.0, 0.5), *((2.0**bits - 1, 2.0 ** (8 - bits), 0.0) for bits in BITS[:-1])]
    for white, scale, rounding in ranges:
        if largest <= white * (1 + OVERSHOOT) and lowest >= -OVERSHOOT * largest:
            grey = (values.astype(np.float64).clip(0, white) * scale + rounding).astype(np.uint8)
            _check_levels(values, grey)
            return grey
    raise NoScale(f"its values lie in {lowest:g} to {largest:g}, and nothing says how bright that is")


def _check_levels(values: np.ndarray, grey: np.ndarray) -> None:
    if int(np.ptp(grey)) + 1 < FEWEST_LEVELS and len(np.unique(grey)) < len(np.unique(values)):
        raise NoScale(
            f"its values lie in {values.min():,} to {values.max():,}, of which next to nothing is left at 8 bits: "
            "save it so that they fill 8, 12 or 16 bits, or floats 0 to 1"
        )


def _number(value: Any) -> float:
    first = value[0] if isinstance(value, tuple) and value else value
    return float(first) if isinstance(first, int | float) else 0.0
