"""Decoding beyond the plain cases: every orientation, damage anywhere, arrays that are no images, real bombs."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.errors import DataError
from tasks.ingest.decode import MAX_PIXELS, decode

TURNED = dict(zip(range(2, 9), [
    Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90,
], strict=True))  # fmt: skip


def noise(height: int = 6, width: int = 9, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", TURNED)
def test_every_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(noise())
    result = np.asarray(decode(encoded(image, exif=exif)))
    np.testing.assert_array_equal(result, np.asarray(image.transpose(TURNED[orientation])))


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    rgba = noise(channels=4)
    alpha = rgba[..., 3:] / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    np.testing.assert_allclose(np.asarray(decode(encoded(Image.fromarray(rgba)))), expected, atol=1)


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr", "HSV", "F"])
def test_other_modes_go_through_pillows_conversion(mode: str) -> None:
    image = Image.fromarray(noise()).convert(mode)
    np.testing.assert_array_equal(np.asarray(decode(image)), np.asarray(image.convert("RGB")))


def test_given_pillow_image_stays_as_it_is() -> None:
    image = Image.fromarray(noise())
    before = image.tobytes()
    decode(image).paste((0, 0, 0), (0, 0, 9, 6))
    assert image.tobytes() == before


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_truncated_image_is_a_data_error(format: str) -> None:
    content = encoded(Image.fromarray(noise(64, 64)), format)
    decode(content)
    with pytest.raises(DataError):
        decode(content[: len(content) // 2])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 9999), st.binary(min_size=1, max_size=8), st.sampled_from(["PNG", "JPEG", "GIF", "TIFF"]))
def test_damaged_image_is_an_image_or_a_data_error(position: int, junk: bytes, format: str) -> None:
    content = bytearray(encoded(Image.fromarray(noise(16, 16)), format))
    start = position % len(content)
    content[start : start + len(junk)] = junk
    with contextlib.suppress(DataError):
        assert decode(bytes(content)).mode == "RGB"


@pytest.mark.parametrize(
    "array",
    [np.ones((4, 4, 3), np.float32), np.ones((4, 4)), np.zeros((4, 4, 5), np.uint8), np.zeros(4, np.uint8)],
    ids=["float32", "float64", "five channels", "one dimension"],
)
def test_array_that_is_no_image_is_a_data_error(array: np.ndarray) -> None:
    """Floats in 0..1 above all, which would silently become a black image."""
    with pytest.raises(DataError):
        decode(array)


@pytest.mark.parametrize("width, height", [(12_000, 12_000), (60_000, 60_000), (MAX_PIXELS + 1, 1)])
def test_bomb_of_a_few_bytes_is_refused(width: int, height: int) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    with pytest.raises(DataError, match="pixels"):
        decode(bomb)
