"""What is said of files that are no images that Pillow reads."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image, ImageFile, TiffImagePlugin

from tasks.errors import DataError
from tasks.ingest import formats
from tasks.ingest.decode import decode, is_image
from tasks.ingest.examine import Limits, Work, examine, examine_one
from tests.ingest.pictures import encoded, picture, zipped

HEIC = b"\0\0\0\x20ftypheic\0\0\0\0mif1heic" + bytes(99)

FILES = {
    "HEIC photo: pip install 'headstart[heic]'": HEIC, "JPEG XL": b"\xff\x0a" + bytes(range(99)),
    "JPEG XL image": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "MP4": b"\0\0\0\x20ftypisom" + bytes(99),
    "QuickTime": b"\0\0\0\x14ftypqt  " + bytes(99), "Canon raw": b"\0\0\0\x18ftypcrx " + bytes(99),
    "DICOM": bytes(128) + b"DICM" + bytes(99), "PDF": b"%PDF-1.7\n" + bytes(99), "ZIP archive": zipped({"1": b"1"}),
    "`git lfs pull`": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "`git annex get`": b"/annex/objects/SHA256E-s1--2.jpg\n", "`dvc pull`": b"outs:\n- md5: a304\n  path: x.jpg\n",
    "web page": b"\n<!DOCTYPE html><html><body>404</body></html>", "SVG": b"<?xml version='1.0'?><svg></svg>",
    "XML": b"<?xml version='1.0'?><annotation/>", "text file": "Grüße, no image\n".encode(),
    "AVI": b"RIFF\0\0\0\0AVI LIST" + bytes(99), "NumPy": b"\x93NUMPY\x01\0" + bytes(99),
    "nothing but zero bytes": bytes(5000), "gzip": b"\x1f\x8b\x08" + bytes(99), "Fujifilm raw": b"FUJIFILMCCD-RAW 0201",
    "no image format that Pillow knows": bytes(range(128, 256)) * 9,
    "TIFF file of a kind that Pillow does not read": b"II*\0\x08\0\0\0\x01\0\0\1\3\0\1\0\0\0\x09\0\0\0\0\0\0\0",
}  # fmt: skip


@pytest.mark.parametrize("told", FILES)
def test_file_that_is_no_image_is_called_what_it_is_in_training_and_serving(told: str, tmp_path: Path) -> None:
    examined = examine(FILES[told], Limits(10**8, 10**8))
    assert examined.kind == "not_an_image" and told in str(examined.reason)
    (tmp_path / "x.jpg").write_bytes(FILES[told])
    for image in (FILES[told], tmp_path / "x.jpg"):
        with pytest.raises(DataError) as refused:
            decode(image)
        assert told in str(refused.value) and "BytesIO" not in str(refused.value)


@pytest.mark.parametrize("told", FILES)
def test_images_that_cannot_be_read_are_images_all_the_same(told: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(FILES[told])
    assert is_image(tmp_path / "x") == any(kind in told for kind in ("HEIC", "JPEG XL", " raw", "TIFF"))


@pytest.mark.parametrize("tags", [{50706: b"\1\4\0\0"}, {254: 1, 330: 8}], ids=["DNG", "NEF"])
def test_thumbnail_of_a_camera_raw_file_is_not_taken_for_the_photo(tags: dict[int, object]) -> None:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[tag] = value
    content = encoded(picture("thumbnail"), "TIFF", tiffinfo=info)
    examined = examine(content, Limits(10**8, 10**8))
    assert examined.kind == "not_an_image" and "camera's raw file" in str(examined.reason)


def test_link_to_content_that_git_annex_has_elsewhere_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").symlink_to("../.git/annex/objects/aa/bb/SHA256E-s1--2.jpg/SHA256E-s1--2.jpg")
    examined = examine_one(Work(str(tmp_path / "x.jpg"), None), Limits(10**8, 10**8), tmp_path)
    assert (examined.kind, examined.reason) == (
        "missing",
        "cannot be read: its content is not here: run `git annex get`",
    )


class Reader(ImageFile.ImageFile):
    """What pillow-heif adds to Pillow, for files that hold a PNG behind a HEIC head."""

    format = "HEIF"

    def _open(self) -> None:
        self.inner = Image.open(io.BytesIO(self.fp.read()[len(HEIC) :]))
        self._size, self._mode = self.inner.size, self.inner.mode

    def load(self) -> object:
        self.im = self.inner.convert(self.mode).im
        return Image.Image.load(self)


@pytest.fixture
def heif_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A package pillow-heif in name and registration; gives how often it was asked to register."""
    asked: list[int] = []

    def register_heif_opener() -> None:
        asked.append(1)
        Image.register_open("HEIF", Reader, lambda start: start[8:12] == b"heic")

    package = ModuleType("pillow_heif")
    package.__spec__ = ModuleSpec("pillow_heif", None)
    package.register_heif_opener = register_heif_opener  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    monkeypatch.setattr(formats, "_loaded", set())
    yield asked
    Image.OPEN.pop("HEIF", None)
    Image.ID[:] = [name for name in Image.ID if name != "HEIF"]


def test_heic_is_read_where_its_package_is_installed(heif_package: list[int], tmp_path: Path) -> None:
    photo = picture("photo")
    assert decode(encoded(photo)).tobytes() == photo.tobytes()
    assert heif_package == []  # nobody asked for it yet
    (tmp_path / "x.heic").write_bytes(HEIC + encoded(photo))
    for image in (HEIC + encoded(photo), tmp_path / "x.heic"):
        assert decode(image).tobytes() == photo.tobytes()
    assert heif_package == [1]
    assert examine(HEIC + encoded(photo), Limits(10**8, 10**8)).format == "HEIF"


def test_damaged_heic_is_an_error_also_where_its_package_is_installed(heif_package: list[int]) -> None:
    with pytest.raises(DataError):
        decode(HEIC)


def test_installed_readers_are_part_of_what_known_files_were_known_by(heif_package: list[int]) -> None:
    assert formats.extras() == ["pillow_heif"]
