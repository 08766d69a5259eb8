"""Pictures as parts of the page itself, so that nothing has to be asked for from elsewhere."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from tasks.ingest.decode import decode
from tasks.limits import Limits

SIDE, QUALITY = 128, 82
"""Pixels of a thumbnail's longer side, and JPEG's quality."""

WIDEST = 1400
"""Pixels of a picture that was drawn for another place; beyond, it is made smaller."""


def thumbnail(path: Path, limits: Limits, side: int = SIDE) -> str:
    """An image of the dataset as a data URI; one smaller than ``side`` stays as it is, pixel for pixel."""
    picture = decode(path, limits)
    if max(picture.size) <= side:
        return _uri(_encoded(picture, "PNG"), "png")
    picture.thumbnail((side, side))
    return _uri(_encoded(picture, "JPEG", quality=QUALITY), "jpeg")


def drawn(path: Path) -> str:
    """A PNG or JPEG that an earlier stage has drawn, in a palette that takes a third of the room."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    if picture.width > WIDEST:
        picture.thumbnail((WIDEST, WIDEST * 8))
    if path.suffix == ".jpg":
        return _uri(_encoded(picture, "JPEG", quality=QUALITY), "jpeg")
    return _uri(_encoded(picture.quantize(192), "PNG", optimize=True), "png")


def chart(figure: Figure) -> str:
    """A Matplotlib figure as SVG, its letters left to the reader's fonts."""
    import matplotlib as mpl

    written = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "headstart"}):
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _uri(written.getvalue().encode(), "svg+xml")


def _encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    written = io.BytesIO()
    picture.save(written, form, **options)
    return written.getvalue()


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
