"""Decoding: whatever users have comes out as upright RGB by the stated rule, or is refused."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image

from tasks.errors import DataError, TooLarge
from tasks.ingest import decode as module
from tasks.ingest.decode import decode, pixels_of
from tasks.ingest.examine import examine
from tasks.limits import ALLOWED, Limits
from tests.ingest.pictures import ORIENTATION, bomb, deep_colour, encoded, interlaced, noise

TURNED = dict(zip(range(2, 9), [
    Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90,
], strict=True))  # fmt: skip


def small(channels: int = 3) -> np.ndarray:
    return noise("small", 6, 9, channels)


def test_every_way_in_gives_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(encoded(Image.fromarray(small())))
    for image in (path, str(path), path.read_bytes(), Image.fromarray(small()), small()):
        np.testing.assert_array_equal(np.asarray(decode(image)), small())


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNED)
def test_every_exif_orientation_is_applied(orientation: int, format: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = Image.fromarray(small())
    content = encoded(image, format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
    np.testing.assert_array_equal(np.asarray(decode(content)), np.asarray(image.transpose(TURNED[orientation])))


@pytest.mark.parametrize("exif", [b"Exif\0\0none of it", b"II*\0"])
@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
def test_metadata_that_cannot_be_read_do_not_keep_an_image_out(format: str, exif: bytes) -> None:
    image = Image.new("RGB", (16, 12), (200, 10, 10))
    content = encoded(image, format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
    assert decode(content).size == image.size and "rotated" not in examine(content, ALLOWED).odd


@pytest.mark.parametrize("orientation", [0, 1, 9, 65535])
def test_orientation_that_means_nothing_turns_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    np.testing.assert_array_equal(np.asarray(decode(encoded(Image.fromarray(small()), exif=exif))), small())


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    rgba = small(4)
    alpha = rgba[..., 3:] / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    np.testing.assert_allclose(np.asarray(decode(encoded(Image.fromarray(rgba)))), expected, atol=1)


def test_transparent_colour_of_a_palette_becomes_white() -> None:
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30] * 256)
    assert np.asarray(decode(encoded(palette, transparency=0))).min() == 255
    assert np.asarray(decode(encoded(palette)))[0, 0].tolist() == [10, 20, 30]


def test_transparent_colour_of_an_image_without_palette_becomes_white() -> None:
    pixels = np.full((2, 2, 3), 7, np.uint8)
    pixels[0, 0] = 200
    decoded = np.asarray(decode(encoded(Image.fromarray(pixels), transparency=(7, 7, 7))))
    assert decoded[0, 0].tolist() == [200] * 3 and decoded[1, 1].tolist() == [255] * 3


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bit_grey_is_scaled_not_clipped(format: str) -> None:
    deep = Image.fromarray(np.array([[0, 255, 256], [0x8000, 0xFF00, 0xFFFF]], np.uint16))
    assert np.asarray(decode(encoded(deep, format)))[..., 0].tolist() == [[0, 0, 1], [128, 255, 255]]


def test_sixteen_bit_colour_keeps_its_high_bytes() -> None:
    expected = noise("deep", 24, 36 * 6, 1).reshape(24, 36, 3, 2)[..., 0]
    np.testing.assert_array_equal(np.asarray(decode(deep_colour("deep"))), expected)


def test_interlaced_rows_come_in_their_order() -> None:
    np.testing.assert_array_equal(np.asarray(decode(interlaced("rows"))), noise("rows"))


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_first_frame_is_taken(format: str) -> None:
    first, second = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    decoded = decode(encoded(first, format, save_all=True, append_images=[second]))
    assert np.asarray(decoded)[0, 0, 0] > 250 and np.asarray(decoded)[0, 0, 2] < 5


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr", "HSV", "LAB", "F"])
def test_other_modes_go_through_pillows_conversion(mode: str) -> None:
    image = Image.fromarray(small()).convert(mode)
    np.testing.assert_array_equal(np.asarray(decode(image)), np.asarray(image.convert("RGB")))


def test_given_pillow_image_stays_as_it_is() -> None:
    image = Image.fromarray(small())
    before = image.tobytes()
    decode(image).paste((0, 0, 0), (0, 0, 9, 6))
    assert image.tobytes() == before


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("percent", [10, 50, 90])
def test_truncated_image_is_a_data_error(format: str, percent: int) -> None:
    content = encoded(Image.fromarray(noise("whole", 64, 64)), format)
    decode(content)
    with pytest.raises(DataError):
        decode(content[: len(content) * percent // 100])


@pytest.mark.parametrize("content", [b"", b"no image at all"], ids=["empty", "text"])
def test_what_is_no_image_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="cannot be decoded"):
        decode(content)


def test_refusal_of_a_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    for path in (tmp_path / "broken.png", tmp_path / "missing.png"):
        with pytest.raises(DataError, match=path.name):
            decode(path)


@settings(max_examples=50)
@given(st.integers(0, 9999), st.binary(min_size=1, max_size=8), st.sampled_from(["PNG", "JPEG", "GIF", "TIFF"]))
def test_damaged_image_is_an_image_or_a_data_error(position: int, junk: bytes, format: str) -> None:
    content = bytearray(encoded(Image.fromarray(noise("whole", 16, 16)), format))
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


@pytest.mark.parametrize(
    "picture", [small()[9:9], small()[:, :0], Image.new("RGB", (0, 3))], ids=["no rows", "no columns", "Pillow's"]
)
def test_a_crop_without_pixels_is_no_image(picture: np.ndarray | Image.Image) -> None:
    """As of a detector's box that has no height."""
    with pytest.raises(DataError, match=r"pixels are no image"):
        decode(picture)


@pytest.mark.parametrize("width, height", [(10_001, 10_000), (13_000, 13_000), (60_000, 60_000), (100_000_001, 1)])
def test_bomb_of_a_few_bytes_is_refused(width: int, height: int) -> None:
    with pytest.raises(TooLarge, match="pixels"), pixels_of(bomb(width, height)):
        pytest.fail("was decoded")


def test_too_many_pixels_or_bytes_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "to_rgb", lambda opened: pytest.fail("was decoded"))
    content = encoded(Image.fromarray(small()))
    with pytest.raises(TooLarge, match="9×6 pixels; the limit is 50 "):
        decode(content, Limits(pixels=50))
    with pytest.raises(TooLarge, match="bytes; the limit is 100 "):
        decode(content, Limits(bytes=100))


@pytest.mark.parametrize("limits", [Limits(), Limits(pixels=54)])
def test_what_is_just_allowed_is_decoded(limits: Limits) -> None:
    with pixels_of(encoded(Image.fromarray(small())), limits) as pixels:
        np.testing.assert_array_equal(pixels, small())


def test_icon_that_hides_a_larger_image_than_it_says_is_refused() -> None:
    inside = encoded(Image.new("RGB", (300, 200)))
    header = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 24, len(inside), 22)
    assert decode(header + inside, Limits(pixels=60_000)).size == (300, 200)
    with pytest.raises(TooLarge, match="300×200"):
        decode(header + inside, Limits(pixels=59_999))


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 6\n%%EndComments\n(/tmp/x) (w) file\n%%EOF\n"


def iptc(content: bytes) -> bytes:
    """An image in an IPTC record: three fields of one byte about it, and the image."""
    fields = {(3, 20): b"\0\x06", (3, 30): b"\0\x09", (3, 60): b"\1\0", (3, 120): b"\0\1", (8, 10): content}
    packed = (b"\x1c%c%c%s%s" % (*key, struct.pack(">H", len(value)), value) for key, value in fields.items())
    return b"".join(packed)


@pytest.mark.parametrize("content", [EPS, iptc(EPS)], ids=["EPS", "IPTC"])
def test_ghostscript_never_runs(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    with pytest.raises(DataError, match="cannot be decoded"):
        decode(content)
    assert not (tmp_path / "ran").exists()


def test_pipe_that_nobody_fills_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(DataError, match="not a regular file"):
        decode(tmp_path / "x.png")


def test_an_array_with_a_sign_is_no_image() -> None:
    with pytest.raises(DataError, match=r"an array \[4, 5\] of int8 is no image: give uint8"):
        decode(np.full((4, 5), -1, np.int8))


@pytest.mark.parametrize("nothing", [None, 5, float("nan"), ["x"], {"image": "x"}], ids=str)
def test_what_is_of_no_kind_of_image_is_a_data_error(nothing: object) -> None:
    """Numbers above all, which the system takes for files that are open."""
    with pytest.raises(DataError, match="is no image"):
        decode(nothing)  # type: ignore[arg-type]


PEAK = """
import re, sys
from tasks.ingest.decode import pixels_of

def peak():
    return int(re.search("VmHWM: *(.*) kB", open("/proc/self/status").read().replace("\\t", " "))[1]) * 1024

with pixels_of(sys.argv[1]):
    before = peak()
with pixels_of(sys.argv[2]) as pixels:
    print((peak() - before) / (pixels.shape[0] * pixels.shape[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own count of the peak is Linux's")
@pytest.mark.parametrize("mode, most", [("RGB", 7.5), ("RGBA", 9)])
def test_large_image_takes_no_more_memory_than_its_pixels_and_one_copy(mode: str, most: float, tmp_path: Path) -> None:
    """Bytes for each pixel: Pillow has 4, the array 3; of a transparent image, Pillow has 4 before and after."""
    for name, size in (("small", (4, 5)), ("large", (4000, 5000))):
        Image.new(mode, size, "red").save(tmp_path / f"{name}.png", compress_level=1)
    command = [sys.executable, "-c", PEAK, str(tmp_path / "small.png"), str(tmp_path / "large.png")]
    assert 6 < float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) < most
