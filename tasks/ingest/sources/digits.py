"""A dataset that comes with a library, for a first run anywhere."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import ClassVar, Literal

from tasks.ingest.sources.base import LARGEST, Item, Source
from tasks.workspace import Workspace


class DigitsSource(Source):
    """scikit-learn's 1,797 handwritten digits: the test part of the UCI optical digits, 8×8 pixels with 17 grey
    levels, scaled to 0..255."""

    embedded: Literal["digits"]
    """``digits``."""
    remembers: ClassVar[bool] = False

    def items(self, workspace: Workspace, limit: int = LARGEST) -> Iterator[Item]:
        """Every digit as a PNG file."""
        import numpy as np
        from PIL import Image
        from sklearn.datasets import load_digits

        digits = load_digits()
        for index, (grey, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            file = io.BytesIO()
            # Without compression the file's bytes do not depend on the version of the compressor, and so the
            # dataset's version is the same everywhere.
            Image.fromarray((grey * 255 / 16).round().astype(np.uint8)).save(file, "PNG", compress_level=0)
            yield Item(f"{label}/{index:04d}.png", content=file.getvalue(), labels=(str(label),))

    def total(self, workspace: Workspace) -> int:
        """1,797."""
        return 1797
