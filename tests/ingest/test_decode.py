"""Decoding: odd files come out as upright RGB by the stated rule, or are refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.errors import DataError
from tasks.ingest import decode as module
from tasks.ingest.decode import decode


def stored(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient() -> Image.Image:
    return Image.fromarray(np.arange(12 * 8 * 3, dtype=np.uint8).reshape(12, 8, 3))


def test_every_way_in_gives_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(stored(gradient(), "PNG"))
    wanted = np.asarray(gradient())
    for given in (path, str(path), path.read_bytes(), gradient(), wanted):
        assert np.array_equal(np.asarray(decode(given)), wanted)


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90° clockwise
    turned = decode(stored(gradient(), "PNG", exif=exif))
    assert np.array_equal(np.asarray(turned), np.asarray(gradient().rotate(-90, expand=True)))


def test_alpha_lies_over_white_also_in_palettes() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert np.asarray(decode(stored(clear, "PNG"))).min() == 255
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30] * 256)
    assert np.asarray(decode(stored(palette, "PNG", transparency=0))).min() == 255
    assert np.asarray(decode(stored(palette, "PNG")))[0, 0].tolist() == [10, 20, 30]


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    deep = Image.fromarray(np.full((3, 3), 0x8000, np.uint16))
    assert np.asarray(decode(stored(deep, "PNG")))[0, 0].tolist() == [128] * 3


def test_cmyk_and_animations_become_rgb() -> None:
    assert decode(stored(gradient().convert("CMYK"), "JPEG")).mode == "RGB"
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    first = decode(stored(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert np.asarray(first)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    "content", [b"", b"no image at all", stored(gradient(), "PNG")[:60]], ids=["empty", "text", "cut"]
)
def test_what_is_no_whole_image_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="cannot be decoded"):
        decode(content)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PIXELS", 90)
    with pytest.raises(DataError, match="8×12 pixels; the limit is 90"):
        decode(stored(gradient(), "PNG"))


@pytest.mark.shared
def test_hundreds_of_odd_files_are_decoded_or_refused_and_nothing_else(shared: Path) -> None:
    import tarfile

    outcomes = {"decoded": 0, "refused": 0}
    with tarfile.open(shared / "datasets/messy-images.tar.gz") as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is None:
                continue
            try:
                assert decode(content.read()).mode == "RGB"
                outcomes["decoded"] += 1
            except DataError:
                outcomes["refused"] += 1
    assert outcomes["decoded"] > 400 and outcomes["refused"] > 50, outcomes
