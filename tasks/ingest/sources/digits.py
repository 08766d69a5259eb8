"""A dataset that comes with a library, for a first run anywhere."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import model_validator

from tasks.ingest.kinds import Problem
from tasks.ingest.labels import AnyLabel, Asked, Tasks, check_single_columns, labels_of, read_value
from tasks.ingest.sources.base import LARGEST, Item, Source
from tasks.target import LABEL
from tasks.wording import shorten
from tasks.workspace import Workspace

COLUMNS = ("digit", "even", "ink")
"""What is known of each: ``0`` to ``9``; ``even`` or ``odd``; mean brightness, 0..1."""


class DigitsSource(Source):
    """scikit-learn's 1,797 handwritten digits: the test part of the UCI optical digits, 8×8 pixels with 17 grey
    levels, scaled to 0..255."""

    embedded: Literal["digits"]
    """``digits``."""
    label: AnyLabel = "digit"
    """``digit``; or columns by the names of tasks, as of a table: ``digit``, ``even`` (``even`` or ``odd``) and ``ink``
    (mean brightness, 0..1)."""
    remembers: ClassVar[bool] = False
    tells_numbers: ClassVar[bool] = True

    @model_validator(mode="after")
    def _columns_are_known(self) -> DigitsSource:
        check_single_columns(self.label)
        named = [column for asked in self._tasks().values() for column in asked.columns]
        if unknown := [column for column in named if column not in COLUMNS]:
            raise ValueError(f"label: there is no column {unknown[0]!r}; there are {shorten(COLUMNS)}")
        return self

    def _tasks(self) -> Tasks:
        return self.label if isinstance(self.label, dict) else {LABEL: Asked(column=self.label)}

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
            cells = {"digit": str(label), "even": "odd" if label % 2 else "even", "ink": repr(float(grey.mean() / 16))}
            path = f"{label}/{index:04d}.png"
            try:
                said = {name: read_value(asked, (cells[str(asked.column)],)) for name, asked in self._tasks().items()}
            except ValueError as error:
                yield Item(path, problem=Problem("bad_row", str(error)))
                continue
            yield Item(path, content=file.getvalue(), **labels_of(said))

    def total(self, workspace: Workspace) -> int:
        """1,797."""
        return 1797
