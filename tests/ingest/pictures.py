"""Image files of every kind that Pillow writes, and files that are none, each with a content of its own."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps

ORIENTATION = 0x0112
FRAMES = {"save_all": True}

PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Adam7: first column, first row, and steps of both, of each pass of an interlaced PNG."""


def noise(name: str, height: int = 24, width: int = 36, channels: int = 3) -> np.ndarray:
    """Pixels that only this name has, and has always."""
    return np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, (height, width, channels), np.uint8)


def picture(name: str, mode: str = "RGB") -> Image.Image:
    """An image of a mode, like no other."""
    image = Image.fromarray(noise(name, channels=4 if mode in ("RGBA", "LA") else 3))
    match mode:
        case "I;16":
            return Image.fromarray(noise(name, channels=2).view(np.uint16)[..., 0])
        case "I":
            return Image.fromarray(noise(name)[..., 0].astype(np.int32) * 257)
        case "P":
            return image.quantize(32)
    return image.convert(mode)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    """The bytes of an image's file."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png(name: str, side: int = 40) -> bytes:
    """A plain PNG file, like no other; the same with every compressor, so that it falls into the same split."""
    return encoded(Image.fromarray(noise(name, side, side)), compress_level=0)


def turned(name: str, orientation: int, format: str = "JPEG") -> bytes:
    """A file that EXIF says to turn."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(picture(name), format, exif=exif)


def oracle(content: bytes) -> np.ndarray:
    """Pixels by the stated rule, computed with Pillow and NumPy alone."""
    opened = Image.open(io.BytesIO(content))
    white = largest_stated(opened)
    image = ImageOps.exif_transpose(opened)
    if image.mode[0] in "IF":
        grey = brightness(np.asarray(image).astype(np.float64), white, image.mode == "F")
        return np.stack([grey] * 3, axis=-1).astype(np.uint8)
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    rgba = np.asarray(image.convert("RGBA")).astype(np.float64)
    alpha = rgba[..., 3:] / 255
    return np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def largest_stated(opened: Image.Image) -> float:
    """The largest value that a TIFF file says its series may have."""
    tags = dict(opened.tag_v2) if opened.format == "TIFF" else {}
    bits = tags.get(258, (8,))[0]
    stated = [entry[0] if isinstance(entry, tuple) else entry for tag in (281, 341) if (entry := tags.get(tag))]
    return max([2**bits - 1 if 8 < bits < 16 else 0, *stated])


def brightness(values: np.ndarray, stated: float, floats: bool) -> np.ndarray:
    """Levels 0 to 255 of a deep image.

    Raises:
        ValueError: there are none.
    """
    lowest, largest = values.min(), max(values.max(), stated)
    ranges = [1, 255, 4095, 65535] if floats else [255, 4095, 65535, 2**32 - 1]
    spare = 0.1 if floats else 0.0
    white = next((white for white in ranges if largest <= white * (1 + spare)), None)
    if white is None or not lowest >= -spare * largest:
        raise ValueError("no scale")
    clipped = values.clip(0, white)
    levels = np.floor(clipped * 255 + 0.5) if white == 1 else np.floor(clipped / ((white + 1) / 256))
    if np.ptp(levels) < 7 and len(np.unique(levels)) < len(np.unique(values)):
        raise ValueError("no scale")
    return levels


def png_of(header: tuple[int, ...], data: bytes, *more: bytes) -> bytes:
    """A PNG file written by hand.

    Args:
        header: width, height, bits, colour type, compression, filter, interlacing.
        data: compressed rows.
        more: chunks before them.
    """
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", *header))
    return start + b"".join(more) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG file of a few bytes whose header promises more pixels than fit anywhere."""
    return png_of((width, height, 8, 2, 0, 0, 0), zlib.compress(b"\0"))


def interlaced(name: str) -> bytes:
    """A PNG file that Pillow reads but does not write."""
    pixels = noise(name)
    passes = [pixels[y::down, x::across] for x, y, across, down in PASSES]
    data = b"".join(b"\0" + row.tobytes() for part in passes for row in part)
    return png_of((36, 24, 8, 2, 0, 0, 1), zlib.compress(data))


def deep_colour(name: str) -> bytes:
    """A PNG file of 16 bits per channel."""
    rows = noise(name, 24, 36 * 6, 1)
    return png_of((36, 24, 16, 2, 0, 0, 0), zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))


def ycck(name: str) -> bytes:
    """A JPEG file whose Adobe marker says that its four channels are YCCK."""
    content = bytearray(encoded(picture(name, "CMYK"), "JPEG"))
    content[content.index(b"Adobe") + 11] = 2
    return bytes(content)


def good() -> Iterator[tuple[str, bytes, str]]:
    """Name, content and oddities of files that are images, in every format."""
    registered = Image.registered_extensions()
    for name, mode, odd, options in (
        ("baseline.jpg", "RGB", "", {}), ("progressive.jpg", "RGB", "", {"progressive": True}),
        ("grey.jpg", "L", "", {}), ("cmyk.jpg", "CMYK", "cmyk", {}), ("rough.jpeg", "RGB", "", {"quality": 5}),
        ("fine.JPG", "RGB", "", {"subsampling": 0}), ("two.mpo", "RGB", "animated", FRAMES),
        ("rgb.png", "RGB", "", {}), ("rgba.png", "RGBA", "alpha", {}), ("p.png", "P", "palette", {}),
        ("p_trns.png", "P", "palette alpha", {"transparency": 3}), ("la.png", "LA", "alpha", {}),
        ("l.png", "L", "", {}), ("bits.png", "1", "", {}), ("deep.png", "I;16", "deep", {}),
        ("rgb_trns.png", "RGB", "alpha", {"transparency": (9, 9, 9)}), ("apng.png", "RGB", "animated", FRAMES),
        ("l_trns.png", "L", "alpha", {"transparency": 7}),
        ("still.gif", "P", "palette", {}), ("moving.gif", "P", "palette animated", FRAMES),
        ("clear.gif", "P", "palette alpha", {"transparency": 5}),
        ("lossy.webp", "RGB", "", {}), ("lossless.webp", "RGB", "", {"lossless": True}),
        ("clear.webp", "RGBA", "alpha", {}), ("moving.webp", "RGB", "animated", FRAMES),
        ("rgb.tif", "RGB", "", {}), ("deep.tif", "I;16", "deep", {}), ("cmyk.tif", "CMYK", "cmyk", {}),
        ("float.tif", "F", "deep", {}), ("int.tif", "I", "deep", {}), ("pages.tiff", "RGB", "animated", FRAMES),
        ("lzw.tif", "RGB", "", {"compression": "tiff_lzw"}), ("fax.tif", "1", "", {"compression": "group4"}),
        ("jpeg.tif", "RGB", "", {"compression": "jpeg"}), ("alpha.tif", "RGBA", "alpha", {}),
        ("lab.tif", "LAB", "cmyk", {}),
        ("24.bmp", "RGB", "", {}), ("32.bmp", "RGBA", "", {}), ("8.bmp", "P", "palette", {}),
        ("1.bmp", "1", "", {}), ("grey.bmp", "L", "", {}), ("icon.ico", "RGBA", "alpha", {}),
        ("rgb.ppm", "RGB", "", {}), ("grey.pgm", "L", "", {}), ("deep.pgm", "I;16", "deep", {}),
        ("bits.pbm", "1", "", {}), ("float.pfm", "F", "deep", {}), ("rgb.jp2", "RGB", "", {}),
        ("alpha.jp2", "RGBA", "alpha", {}), ("rgb.tga", "RGB", "", {}), ("alpha.tga", "RGBA", "alpha", {}),
        ("rle.tga", "RGB", "", {"compression": "tga_rle"}), ("rgb.pcx", "RGB", "", {}),
        ("p.pcx", "P", "palette", {}), ("rgb.sgi", "RGB", "", {}), ("rgb.dds", "RGB", "", {}),
        ("alpha.dds", "RGBA", "alpha", {}), ("lossy.avif", "RGB", "", {}), ("alpha.avif", "RGBA", "alpha", {}),
        ("rgb.qoi", "RGB", "", {}), ("bits.msp", "1", "", {}), ("bits.xbm", "1", "", {}),
        ("rgb.dib", "RGB", "", {}),
    ):  # fmt: skip
        format = registered.get(f".{name.rpartition('.')[2].lower()}", "")
        if format not in Image.SAVE:
            continue  # AVIF and JPEG 2000 are not in every build of Pillow
        more = {"append_images": [picture(f"second {name}", mode)]} if options is FRAMES else {}
        yield name, encoded(picture(name, mode), format, **options, **more), odd
    yield from (
        (f"turned{number}.jpg", turned(f"{number}", number), "rotated" if number > 1 else "") for number in range(1, 9)
    )
    yield "turned_beyond.jpg", turned("beyond", 9), ""
    yield "one_colour.png", encoded(Image.new("RGB", (36, 24), "teal")), "one_colour"
    yield "one_grey.tif", encoded(Image.fromarray(np.full((36, 48), 777, np.uint16)), "TIFF"), "deep one_colour"
    for format in {"PNG", "TIFF", "WEBP", "AVIF"}.intersection(Image.SAVE):
        yield f"turned.{format.lower()}", turned(f"turned {format}", 6, format), "rotated"
    yield "interlaced.png", interlaced("interlaced"), ""
    yield "deep_colour.png", deep_colour("deep colour"), "deep"
    yield "ycck.jpg", ycck("ycck"), "cmyk"
    yield "damaged_exif.jpg", encoded(picture("damaged_exif.jpg"), "JPEG", exif=b"Exif\0\0no tags at all"), ""
    yield "really_a.png", encoded(picture("really_a.png"), "JPEG"), "wrong_extension"
    yield "really_a.jpg", encoded(picture("really_a.jpg")), "wrong_extension"
    yield "no_extension", encoded(picture("no_extension"), "JPEG"), "wrong_extension"
    yield "upper.PNG", encoded(picture("upper.PNG")), ""


def bad() -> Iterator[tuple[str, bytes, str]]:
    """Name, content and expected finding of files that are no images, or not whole."""
    yield "zero.jpg", b"", "empty"
    with zipfile.ZipFile(packed := io.BytesIO(), "w") as archive:
        archive.writestr("1.png", png("1"))
    for name, content in {
        "text.jpg": b"no image at all", "page.png": b"<html><body>404 Not Found</body></html>", "nulls.png": bytes(999),
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><rect/></svg>",
        "page.pdf": encoded(picture("pdf"), "PDF"), "zip.jpg": packed.getvalue(), "pickle.png": pickle.dumps([1]),
        "labels.json": json.dumps([1]).encode(), "photo.heic": b"\0\0\0\x20ftypheic" + bytes(99),
        "start.jpg": encoded(picture("start"), "JPEG")[:2], "start.gif": encoded(picture("start", "P"), "GIF")[:20],
    }.items():  # fmt: skip
        yield name, content, "not_an_image"
    for format, percents in {"JPEG": (10, 50, 90), "PNG": (10, 50, 90), "GIF": (50, 90), "TIFF": (10, 50, 90)}.items():
        for percent in percents:
            whole = encoded(picture(f"{percent} {format}"), format)
            yield f"{percent}_percent.{format.lower()}", whole[: len(whole) * percent // 100], "truncated"
    deep = noise("deep")[..., 0].astype(np.float32)
    for name, values in {
        "beyond.tif": deep.astype(np.int32) * 300, "negative.tif": deep.astype(np.int32) - 9,
        "signed.tif": deep / 99 - 1, "not_a_number.tif": np.where(deep > 9, deep, np.nan), "huge.tif": deep * 1e6,
        "close.tif": (deep / 99 + 30_000).astype(np.uint16), "tiny.tif": deep / 1e6,
    }.items():  # fmt: skip
        yield name, encoded(Image.fromarray(values), "TIFF"), "no_scale"
    webp = encoded(picture("half"), "WEBP")
    yield "half.webp", webp[: len(webp) // 2], "undecodable"
    crc = bytearray(png("crc"))
    crc[crc.index(b"IDAT") + 20] ^= 255
    yield "crc.png", bytes(crc), "undecodable"
    size = (36, 24, 8, 2, 0, 0, 0)
    yield "no_stream.png", png_of(size, b"no compressed rows"), "undecodable"
    yield "few_rows.png", png_of(size, zlib.compress(bytes(10))), "truncated"
    rows = zlib.compress(bytes(24 * (36 * 3 + 1)))
    text = chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(2**22)))
    yield "text_bomb.png", png_of(size, rows, text), "undecodable"
    yield "bomb.png", bomb(), "too_large"
    yield "smaller_bomb.png", bomb(12_000, 12_000), "too_large"
    yield "bomb.ppm", b"P6 60000 60000 255\n", "too_large"
    gif = encoded(picture("bomb", "P"), "GIF")
    yield "bomb.gif", gif[:6] + b"\xff" * 4 + gif[10:], "too_large"


def tarred(members: dict[str, bytes | tuple[bytes, str]]) -> bytes:
    """A tar file of files (name to content), links and devices (name to type and target)."""
    with tarfile.open(fileobj=(packed := io.BytesIO()), mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = content
                archive.addfile(member)
    return packed.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    """A zip file of files."""
    with zipfile.ZipFile(packed := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()
