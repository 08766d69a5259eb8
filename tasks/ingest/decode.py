"""The one place where an image becomes pixels, for training and serving alike."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from tasks.errors import DataError

ImageLike = str | Path | bytes | Image.Image | np.ndarray
"""What users have: a path, the bytes of an image file, a Pillow image, or an array ``[H, W]`` or
``[H, W, 3 or 4]``, uint8 in 0..255."""

MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)
"""A larger image is refused before it is decoded, by Pillow too: it is a decompression bomb. Ingestion sets a lower
limit (``ingest.limits.pixels``)."""

_WHITE = (255, 255, 255, 255)


def decode(image: ImageLike) -> Image.Image:
    """Decode to an upright RGB image, 8 bits per channel.

    The rule: the first frame is taken; EXIF orientation is applied; 16-bit grey is divided by 256; an alpha
    channel (also a palette's transparency) is laid over white; every other mode goes through Pillow's own
    conversion to RGB.

    Raises:
        DataError: the input is not an image, is truncated or has more than `MAX_PIXELS` pixels.
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
            opened = Image.open(io.BytesIO(image))
        case _:
            opened = Image.open(image)
    width, height = opened.size
    if width * height > MAX_PIXELS:
        raise DataError(f"{_name(image)} has {width}×{height} pixels; the limit is {MAX_PIXELS:,}")
    return opened


def to_rgb(opened: Image.Image) -> Image.Image:
    """The pixels of an opened image by the rule of `decode`."""
    turned = opened.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1)
    image = ImageOps.exif_transpose(opened) if turned else opened
    if image.mode == "RGB" and not image.has_transparency_data:
        image.load()
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow clips instead of scaling when it converts 16-bit grey to 8 bits.
        grey = np.asarray(image, dtype=np.int64) // 256
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, _WHITE), rgba).convert("RGB")
    return image.convert("RGB")


def _name(image: ImageLike) -> str:
    return str(image) if isinstance(image, str | Path) else f"a {type(image).__name__} input"
