"""Images of more than 8 bits: the brightness that the rule gives them, and those that have none."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from tasks.errors import DataError
from tasks.ingest.decode import decode
from tasks.ingest.depth import NoScale
from tests.ingest.pictures import ORIENTATION, encoded, noise, png_of

LEVELS = noise("levels", 24, 36)
"""Brightness that images of every depth are made from, ``[24, 36, 3]``."""
GREY = LEVELS[..., 0]


def decoded(image: np.ndarray | Image.Image, format: str = "TIFF", **options: Any) -> np.ndarray:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    return np.asarray(decode(encoded(image, format, **options)))


def tags(**values: float) -> TiffImagePlugin.ImageFileDirectory_v2:
    found = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in values.items():
        found[{"max_sample_value": 281, "s_max_sample_value": 341}[name]] = value
    return found


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_sixteen_bit_file_is_read_by_the_bits_that_it_uses(bits: int, format: str) -> None:
    values = GREY.astype(np.uint16) << (bits - 8)
    np.testing.assert_array_equal(decoded(values, format)[..., 0], GREY)


@pytest.mark.parametrize("bits", [8, 12, 16, 31])
def test_file_of_thirty_two_bit_integers_is_read_by_the_bits_that_it_uses(bits: int) -> None:
    if bits == 31:
        values, levels = (GREY // 2).astype(np.int32) << 24, GREY // 2
    else:
        values, levels = GREY.astype(np.int32) << (bits - 8), GREY
    np.testing.assert_array_equal(decoded(values)[..., 0], levels)


@pytest.mark.parametrize("white", [1, 255, 4095, 65535])
def test_floats_count_up_to_the_usual_ends(white: int) -> None:
    values = (GREY / 255 * white).astype(np.float32)
    assert np.abs(decoded(values)[..., 0].astype(int) - GREY).max() <= 1
    if white in (1, 255):
        np.testing.assert_array_equal(decoded(values)[..., 0], GREY)


def test_what_resampling_leaves_beyond_the_ends_is_clipped() -> None:
    values = (GREY / 255).astype(np.float32)
    values[0, :4] = [-0.04, 1.07, 1.0, 0.0]
    assert decoded(values)[0, :4, 0].tolist() == [0, 255, 255, 0]


def test_dark_image_stays_as_much_darker_as_it_is() -> None:
    bright, dark = GREY.astype(np.uint16) << 4, GREY.astype(np.uint16) << 2
    np.testing.assert_array_equal(decoded(dark)[..., 0], decoded(bright)[..., 0] // 4)


@pytest.mark.parametrize("tag", ["max_sample_value", "s_max_sample_value"])
def test_largest_value_that_a_file_states_keeps_a_dark_image_dark(tag: str) -> None:
    dark = GREY.astype(np.uint16)
    assert decoded(dark, tiffinfo=tags(**{tag: 200}))[..., 0].max() == 255
    np.testing.assert_array_equal(decoded(dark, tiffinfo=tags(**{tag: 4095}))[..., 0], GREY >> 4)


def test_white_may_be_zero() -> None:
    content = bytearray(encoded(Image.fromarray(GREY.astype(np.uint16) << 8), "TIFF"))
    at = content.index(b"\x06\x01\x03\x00\x01\x00\x00\x00\x01\x00")
    content[at + 8] = 0
    np.testing.assert_array_equal(np.asarray(decode(bytes(content)))[..., 0], 255 - GREY)


def deep_png(values: np.ndarray) -> bytes:
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png_of((width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0), zlib.compress(rows))


def deep_tiff(values: np.ndarray, order: str) -> bytes:
    """An uncompressed TIFF file of 16-bit colours, as Pillow reads but does not write."""
    height, width, channels = values.shape
    data = values.astype(f"{order}u2").tobytes()
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, None), (259, 3, 1, 1), (262, 3, 1, 2),
               (273, 4, 1, 8), (277, 3, 1, channels), (278, 3, 1, height), (279, 4, 1, len(data))]  # fmt: skip
    number = {"<": "little", ">": "big"}[order]

    def packed(value: int, size: int) -> bytes:
        return value.to_bytes(size, number)  # type: ignore[arg-type]

    head = (b"II" if order == "<" else b"MM") + packed(42, 2) + packed(8 + len(data), 4)
    after = 8 + len(data) + 2 + 12 * len(entries) + 4
    fields = b""
    for tag, kind, count, value in entries:
        shown = packed(after, 4) if value is None else packed(value, 2) + bytes(2) if kind == 3 else packed(value, 4)
        fields += packed(tag, 2) + packed(kind, 2) + packed(count, 4) + shown
    return head + data + packed(len(entries), 2) + fields + bytes(4) + packed(16, 2) * channels


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("kind", ["png", "tiff <", "tiff >"])
def test_sixteen_bit_colours_are_read_by_the_bits_that_they_use(kind: str, bits: int) -> None:
    values = LEVELS.astype(np.uint16) << (bits - 8)
    content = deep_png(values) if kind == "png" else deep_tiff(values, kind[-1])
    np.testing.assert_array_equal(np.asarray(decode(content)), LEVELS)


def test_sixteen_bit_colours_in_a_file_are_read_there_too(tmp_path: Any) -> None:
    (tmp_path / "12.png").write_bytes(deep_png(LEVELS.astype(np.uint16) << 4))
    np.testing.assert_array_equal(np.asarray(decode(tmp_path / "12.png")), LEVELS)


@pytest.mark.parametrize("opaque", [255, 4095, 65535])
def test_opaque_colours_of_twelve_bits_stay_opaque_however_that_is_written(opaque: int) -> None:
    if opaque == 255:
        values = np.dstack([LEVELS, np.full_like(GREY, 255)]).astype(np.uint16)
    else:
        values = np.dstack([LEVELS.astype(np.uint16) << 4, np.full(GREY.shape, opaque, np.uint16)])
    np.testing.assert_array_equal(np.asarray(decode(deep_png(values))), LEVELS)


def test_deep_image_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for values in (GREY.astype(np.uint16) << 4, (GREY / 255).astype(np.float32)):
        np.testing.assert_array_equal(decoded(values, exif=exif)[..., 0], np.rot90(GREY, -1))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (GREY.astype(np.int32) - 1024, "its values begin at -1,024, and nothing says how bright that is"),
        (GREY.astype(np.float32) - 90, "its values lie in -90 to 165, and nothing says"),
        (GREY * np.float32(1e4), "its values lie in 0 to 2.55e\\+06, and nothing says"),
        (np.where(GREY > 9, GREY, np.nan).astype(np.float32), "some of its values are no numbers"),
        (GREY.astype(np.int32) * 300, "its values lie in 0 to 76,500, of which next to nothing is left at 8 bits"),
        (GREY // 99 + np.uint16(40_000), "its values lie in 40,000 to 40,002, of which next to nothing"),
        (GREY / np.float32(1e5), "of which next to nothing is left"),
        (GREY / np.float32(80), "of which next to nothing is left"),
    ],
)
def test_values_whose_brightness_nobody_can_tell_are_refused_in_serving_and_kept_out_of_training(
    values: np.ndarray, told: str
) -> None:
    from tasks.ingest.examine import Limits, examine

    content = encoded(Image.fromarray(values), "TIFF")
    with pytest.raises(NoScale, match=told):
        decode(content)
    with pytest.raises(DataError):
        decode(Image.fromarray(values))
    assert examine(content, Limits(10**8, 10**8)).kind == "no_scale"


def test_two_neighbouring_high_bytes_are_no_single_colour() -> None:
    values = LEVELS // 64 + np.uint16(40_000)
    with pytest.raises(NoScale, match="next to nothing"):
        decode(deep_png(values))


def test_mask_of_few_values_stays_as_it_is() -> None:
    mask = (GREY // 128).astype(np.uint16)
    np.testing.assert_array_equal(decoded(mask)[..., 0], GREY // 128)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_image_of_one_value_has_one_colour(kind: type) -> None:
    assert len(np.unique(decoded(np.full((24, 36), 3000, kind)))) == 1
