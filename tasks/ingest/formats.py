"""What a file is that Pillow does not read, for a message that helps: pointers, other formats, camera files, pages."""

from __future__ import annotations

import importlib.util
from pathlib import PurePosixPath
from typing import Any

HEIF = frozenset([b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"])
"""Brands of files that hold HEIF images."""

STILLS = {
    b"avif": "an AVIF image, which this build of Pillow does not read", b"avis": "an AVIF sequence",
    b"crx ": "a Canon raw file (CR3): export JPEG, PNG or TIFF",
}  # fmt: skip
"""Brands of other images in the same container."""

BRANDS = STILLS | {b"qt  ": "a QuickTime video", b"M4V ": "an MP4 video"}
"""Brands of other files of the same container."""

PICTURES: dict[bytes, str] = {
    b"\xff\x0a": "a JPEG XL image: save it as JPEG, PNG or TIFF",
    b"\x00\x00\x00\x0cJXL \r\n\x87\n": "a JPEG XL image: save it as JPEG, PNG or TIFF",
    b"FUJIFILMCCD-RAW": "a Fujifilm raw file: export JPEG, PNG or TIFF",
    b"IIRO": "an Olympus raw file: export JPEG, PNG or TIFF", b"IIRS": "an Olympus raw file: export JPEG, PNG or TIFF",
    b"MMOR": "an Olympus raw file: export JPEG, PNG or TIFF", b"IIU\x00": "a Panasonic raw file: export JPEG or PNG",
    b"FOVb": "a Sigma raw file: export JPEG, PNG or TIFF", b"\x00MRM": "a Minolta raw file: export JPEG or PNG",
    b"II*\x00": "a TIFF file of a kind that Pillow does not read: save it with 8 or 16 bits a channel",
    b"MM\x00*": "a TIFF file of a kind that Pillow does not read: save it with 8 or 16 bits a channel",
    b"II+\x00": "a BigTIFF file of a kind that Pillow does not read",
}  # fmt: skip
"""How images begin that Pillow does not read."""

STARTS: dict[bytes, str] = PICTURES | {
    b"version https://git-lfs.github.com/spec/": "a Git LFS pointer, not the image itself: run `git lfs pull`",
    b"/annex/objects/": "a git-annex pointer, not the image itself: run `git annex get`",
    b"outs:\n": "a DVC pointer, not the image itself: run `dvc pull`",
    b"%PDF": "a PDF document", b"%!PS": "a PostScript document", b"{\\rtf": "a text document (RTF)",
    b"\xd0\xcf\x11\xe0": "an Office document", b"PK\x03\x04": "a ZIP archive: unpack it, or name it as a source",
    b"\x1f\x8b": "a gzip archive: unpack it, or name it as a source",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it", b"Rar!": "a RAR archive: unpack it",
    b"BZh": "a bzip2 archive: unpack it, or name it as a source",
    b"\xfd7zXZ\x00": "an xz archive: unpack it, or name it as a source",
    b"\x28\xb5\x2f\xfd": "a zstd archive: unpack it, or name it as a source",
    b"\x93NUMPY": "a NumPy array: save it as PNG or TIFF", b"\x89HDF": "an HDF5 file", b"SQLite format 3": "a database",
    b"PAR1": "a Parquet table", b"\x1aE\xdf\xa3": "a video (Matroska or WebM)", b"FLV\x01": "a Flash video",
    b"OggS": "an Ogg file", b"ID3": "an MP3 file", b"fLaC": "a FLAC file",
    b"\x00\x05\x16\x07": "what macOS keeps beside a file (AppleDouble)", b"<?xpacket": "metadata (XMP)",
    b"\x80\x04": "a Python pickle", b"\x80\x02": "a Python pickle", b"\x80\x03": "a Python pickle",
    b"MZ": "a Windows program", b"\x7fELF": "a program",
}  # fmt: skip
"""How files begin."""

EXTENSIONS = {
    b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp", b"GIF8": "gif", b"II*\x00": "tif", b"MM\x00*": "tif",
    b"BM": "bmp",
}  # fmt: skip
"""How usual images begin, and how their files' names end."""

RIFF = {b"AVI ": "an AVI video", b"WAVE": "a WAV sound", b"WEBP": "a WebP image that Pillow cannot read"}

TEXT = "a text file"

_loaded: set[str] = set()


def read_heif(start: bytes) -> bool:
    """Have Pillow read HEIC from now on, where a file is that and the package pillow-heif is installed.

    Returns:
        Whether trying once more may help.
    """
    if "pillow_heif" in _loaded or start[4:8] != b"ftyp" or start[8:12] not in HEIF:
        return False
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    _loaded.add("pillow_heif")
    return True


def is_picture(start: bytes) -> bool:
    """Whether a file that Pillow does not read is an image all the same: HEIC, AVIF, JPEG XL, a camera's raw file."""
    if start[4:8] == b"ftyp":
        return start[8:12] in HEIF | STILLS.keys()
    return start.startswith(tuple(PICTURES))


def extras() -> list[str]:
    """Packages that read further formats and are installed: what is known of files depends on them."""
    return [name for name in ("pillow_heif",) if importlib.util.find_spec(name)]


def named(content: bytes) -> str:
    """What a file that Pillow does not read is, in words that follow "it is"."""
    return known(content) or "no image format that Pillow knows"


def known(content: bytes) -> str | None:
    """What a file is, where anything says so."""
    if not content:
        return "zero bytes"
    start = content[:512]
    if start[4:8] == b"ftyp":
        if start[8:12] in HEIF:
            return "a HEIC photo: pip install 'headstart[heic]', or save it as JPEG"
        return BRANDS.get(start[8:12], "a video (MP4)")
    if start.startswith(b"RIFF") and start[8:12] in RIFF:
        return RIFF[start[8:12]]
    if start[128:132] == b"DICM":
        return "a DICOM file: export it as PNG or TIFF"
    if found := next((told for magic, told in STARTS.items() if start.startswith(magic)), None):
        return found
    if not content.strip(b"\0"):
        return "nothing but zero bytes: lost by a disk, or never downloaded"
    return _text(start)


def extension_of(content: bytes, name: str = "") -> str:
    """How the file of an image is to end that has no file: by its content, else as ``name`` does."""
    known = next((known for start, known in EXTENSIONS.items() if content.startswith(start)), None)
    return known or PurePosixPath(name).suffix.lstrip(".") or "bin"


def raw_thumbnail(opened: Any) -> str | None:
    """What a camera's raw file is called that looks like a TIFF whose only image is a thumbnail; None for others."""
    tags = getattr(opened, "tag_v2", {})
    if 50706 in tags or (330 in tags and int(tags.get(254, 0)) & 1):  # DNGVersion; SubIFDs below a reduced image
        return "a camera's raw file (DNG, NEF, ARW...): export JPEG, PNG or TIFF"
    return None


def _text(start: bytes) -> str | None:
    try:
        text = start.decode("utf-8-sig", "strict" if len(start) < 512 else "ignore").lstrip().lower()
    except UnicodeDecodeError:
        return None
    if text.startswith(("<!doctype html", "<html", "<head", "<body")):
        return "a web page (HTML), perhaps an error in place of a download"
    if "<svg" in text:
        return "an SVG drawing: save it as PNG"
    if text.startswith("<?xml"):
        return "an XML file"
    return TEXT if text and all(sign.isprintable() or sign in "\t\r\n\f" for sign in text) else None
