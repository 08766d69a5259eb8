"""The one place where an image becomes pixels, for training and serving alike."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from tasks.errors import DataError
from tasks.ingest import formats
from tasks.ingest.depth import to_eight_bits

ImageLike = str | Path | bytes | Image.Image | np.ndarray
"""What users have: a path, the bytes of an image file, a Pillow image, or an array ``[H, W]`` or
``[H, W, 3 or 4]``, uint8 in 0..255."""

MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)
"""A larger image is refused before it is decoded, by Pillow too: it is a decompression bomb. Ingestion sets a lower
limit (``ingest.limits.pixels``)."""

_WHITE = (255, 255, 255, 255)


def decode(image: ImageLike) -> Image.Image:
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
        DataError: the input is not an image, is truncated, has more than `MAX_PIXELS` pixels, or values whose
            brightness nobody can tell.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of large or slightly odd files; the limit below and the decoder itself decide.
            warnings.simplefilter("ignore")
            decoded = to_rgb(open_image(image))
            return decoded.copy() if decoded is image else decoded
    except DataError:
        raise
    except Exception as error:  # Pillow's plugins raise some twenty different types on malformed files.
        raise DataError(f"{_name(image)} cannot be decoded as an image: {error}") from error


def open_image(image: ImageLike) -> Image.Image:
    """Read an image's header, not yet its pixels.

    Raises:
        DataError: an array is no image, or the image has more than `MAX_PIXELS` pixels.
        Exception: of some twenty types, from Pillow.
    """
    match image:
        case Image.Image():
            opened = image
        case np.ndarray():
            if image.dtype.kind == "f" or image.ndim not in (2, 3):
                # Pillow would take floats in 0..1 for a black image.
                raise DataError(
                    f"an array {list(image.shape)} of {image.dtype} is no image: give uint8 [H, W] or [H, W, 3 or 4]"
                )
            opened = Image.fromarray(image)
        case bytes():
            opened = _open(io.BytesIO(image))
        case _:
            opened = _open(Path(image))
    width, height = opened.size
    if width * height > MAX_PIXELS:
        raise DataError(f"{_name(image)} has {width}×{height} pixels; the limit is {MAX_PIXELS:,}")
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


def to_rgb(opened: Image.Image) -> Image.Image:
    """The pixels of an opened image by the rule of `decode`."""
    opened = to_eight_bits(opened)
    turned = opened.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1)
    image = ImageOps.exif_transpose(opened) if turned else opened
    if image.mode == "RGB" and not image.has_transparency_data:
        image.load()
        return image
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, _WHITE), rgba).convert("RGB")
    return image.convert("RGB")


def _name(image: ImageLike) -> str:
    return str(image) if isinstance(image, str | Path) else f"a {type(image).__name__} input"
