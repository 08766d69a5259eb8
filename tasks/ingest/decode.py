"""The one place where an image becomes pixels, for training and serving alike."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks.errors import DataError, TooLarge
from tasks.ingest import formats
from tasks.ingest.depth import NoScale, orientation, to_eight_bits
from tasks.ingest.room import room_for
from tasks.limits import ALLOWED, Limits

ImageLike = str | Path | bytes | Image.Image | np.ndarray
"""What users have: a path, the bytes of an image file, a Pillow image, or an array ``[H, W]`` or
``[H, W, 3 or 4]``, uint8 in 0..255."""

REFUSED = frozenset(["EPS", "IPTC", "MIC", "FPX", "BLP", "FITS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"])
"""Formats that are not decoded: EPS runs Ghostscript; BLP, IPTC and MIC unpack images of any size and kind, EPS too;
FITS unpacks gzip of any size; the others are handed to whatever program is registered for them."""

NESTED = frozenset(["ICO", "ICNS"])
"""Formats whose header does not tell the size of the image that is packed inside."""

ROWS = 64
"""Of a large image, how many are copied at once."""

_WHITE = (255, 255, 255, 255)


def decode(image: ImageLike, limits: Limits = ALLOWED) -> Image.Image:
    """Decode to an upright RGB image, 8 bits per channel.

    The rule: the first frame is taken; EXIF orientation is applied; an alpha channel (also a palette's transparency)
    is laid over white; every other mode goes through Pillow's own conversion to RGB. Of images of more than 8 bits:

    - Integers are read as of 8, 12, 16 or 32 bits, whichever is the least that holds the largest value of the image
      and the largest one that its file states (TIFF's MaxSampleValue), and lose all but their highest 8 bits.
    - Floats count up to 1, 255, 4095 or 65535, whichever is the least that holds them; what exceeds it, or 0, by up
      to a tenth is clipped.
    - TIFF's "white is zero" is turned round.
    - Negative integers, numbers beyond these, NaN, and images of which next to nothing is left have no brightness
      that anybody could tell: they are refused.

    It depends on the file alone, and is the same in training and serving.

    Raises:
        DataError: the input is not an image, is truncated, of a format that is `REFUSED`, beyond the limits, or holds
            values whose brightness nobody can tell.
    """
    with _told(image):
        opened = open_image(image, limits)
        with room_of(opened, limits):
            decoded = decode_opened(opened, limits, keep=opened is image)
    return decoded.copy() if decoded is image else decoded


@contextmanager
def pixels_of(image: ImageLike, limits: Limits = ALLOWED) -> Iterator[np.ndarray]:
    """An image by the rule of `decode`, for as long as the block lasts: uint8 ``[H, W, 3]``.

    Until then its pixels take room (see `tasks.ingest.room`), so that large images do not add up.

    Raises:
        DataError: as `decode`.
    """
    with _told(image):
        opened = open_image(image, limits)
    with room_of(opened, limits):
        with _told(image):
            pixels = _as_array(decode_opened(opened, limits, keep=opened is image))
        del opened  # and with it Pillow's pixels
        yield pixels


def is_image(path: Path) -> bool:
    """Whether a file is an image by its content, whether or not it can be decoded; never waits for a pipe."""
    try:
        if not path.is_file():
            return False
        with warnings.catch_warnings(action="ignore"), Image.open(path):
            return True
    except UnidentifiedImageError:
        return formats.is_picture(_start_of(path))
    except Image.DecompressionBombError:
        return True
    except Exception:  # of some twenty types
        return False


def open_image(image: ImageLike, limits: Limits = ALLOWED) -> Image.Image:
    """Read an image's header, not yet its pixels.

    Raises:
        TooLarge: it is beyond the limits.
        DataError: an array is no image, a path is no file, or the format is `REFUSED`.
        Exception: of some twenty types, from Pillow.
    """
    match image:
        case Image.Image():
            opened = image
        case np.ndarray():
            if image.dtype.kind == "f" or image.dtype == np.int8 or image.ndim not in (2, 3):
                # Pillow would take floats in 0..1 for a black image, and what is negative for the brightest.
                raise DataError(
                    f"an array {list(image.shape)} of {image.dtype} is no image: give uint8 [H, W] or [H, W, 3 or 4]"
                )
            opened = Image.fromarray(image)
        case bytes():
            _check_bytes(len(image), limits)
            opened = _open(io.BytesIO(image))
        case str() | Path():
            status = os.stat(image)
            if not stat.S_ISREG(status.st_mode):  # opening a pipe that nobody fills would never end
                raise DataError("not a regular file")
            _check_bytes(status.st_size, limits)
            opened = _open(Path(image))
        case _:
            raise DataError(f"a {type(image).__name__} is no image")
    if opened.format in REFUSED:
        raise DataError(f"files of the format {opened.format} are not decoded: save it as PNG")
    _check_pixels(opened, limits)
    return opened


def _open(source: io.BytesIO | Path) -> Image.Image:
    """Open what Pillow reads, and HEIC where there is a package for it; of all else the error says what it is."""
    try:
        opened = Image.open(source)
    except UnidentifiedImageError:
        start = source.getvalue() if isinstance(source, io.BytesIO) else _start_of(source)
        if formats.read_heif(start):
            return Image.open(source)
        raise UnidentifiedImageError(formats.named(start)) from None
    if told := formats.raw_thumbnail(opened):
        raise UnidentifiedImageError(told)
    return opened


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1 << 16)


def _check_bytes(size: int, limits: Limits) -> None:
    if size > limits.bytes:
        raise TooLarge(f"{size:,} bytes; the limit is {limits.bytes:,} (ingest.limits.bytes)")


def _check_pixels(opened: Image.Image, limits: Limits) -> None:
    width, height = opened.size
    if not width * height:
        raise DataError(f"{width}×{height} pixels are no image")
    if width * height > limits.pixels:
        raise TooLarge(f"{width}×{height} pixels; the limit is {limits.pixels:,} (ingest.limits.pixels)")


def room_of(opened: Image.Image, limits: Limits) -> AbstractContextManager[None]:
    """Room for the pixels of an opened image."""
    needed = limits.pixels if opened.format in NESTED else opened.width * opened.height
    return room_for(needed).hold(needed)


def decode_opened(opened: Image.Image, limits: Limits, keep: bool = False) -> Image.Image:
    """The pixels of an opened image by the rule of `decode`; it is closed unless it is to be kept.

    Raises:
        TooLarge: it holds more than its header said.
        Exception: of some twenty types, from Pillow.
    """
    decoded = to_rgb(opened)
    _check_pixels(decoded, limits)
    if decoded is not opened and not keep:
        opened.close()  # which gives its pixels back
    return decoded


def _as_array(picture: Image.Image) -> np.ndarray:
    """Pixels uint8 ``[H, W, 3]``, a few rows after another: Pillow's own conversion would hold all of them twice."""
    pixels = np.empty((picture.height, picture.width, 3), np.uint8)
    for box in _strips(picture):
        pixels[box[1] : box[3]] = np.asarray(picture.crop(box))
    return pixels


def _strips(picture: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    for top in range(0, picture.height, ROWS):
        yield 0, top, picture.width, min(top + ROWS, picture.height)


@contextmanager
def _told(image: ImageLike) -> Iterator[None]:
    """Whatever Pillow stumbles over, as a DataError."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of large or slightly odd files; the limits and the decoder itself decide.
            warnings.simplefilter("ignore")
            yield
    except (TooLarge, Image.DecompressionBombError) as error:
        raise TooLarge(f"{_name(image)} is too large: {error}") from None
    except NoScale as error:
        raise NoScale(f"{_name(image)} cannot be decoded as an image: {error}") from None
    except Exception as error:  # Pillow's plugins raise some twenty different types on malformed files.
        raise DataError(f"{_name(image)} cannot be decoded as an image: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Why an image cannot be decoded, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def to_rgb(opened: Image.Image) -> Image.Image:
    """The pixels of an opened image by the rule of `decode`."""
    opened = to_eight_bits(opened)
    image = ImageOps.exif_transpose(opened) if orientation(opened) > 1 else opened
    if image.mode == "RGB" and not image.has_transparency_data:
        image.load()
        return image
    if image.has_transparency_data:
        return _over_white(image if image.mode == "RGBA" else image.convert("RGBA"))
    return image.convert("RGB")


def _over_white(rgba: Image.Image) -> Image.Image:
    flat = Image.new("RGB", rgba.size)
    for box in _strips(rgba):
        strip = rgba.crop(box)
        flat.paste(Image.alpha_composite(Image.new("RGBA", strip.size, _WHITE), strip), box[:2])
    return flat


def _name(image: ImageLike) -> str:
    return str(image) if isinstance(image, str | Path) else "the input"
