"""Columns whose cells are no names of splits: numbers of folds, yes and no."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import combinations
from typing import Annotated

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from tasks.ingest.labels import NO, YES
from tasks.ingest.naming import look_alike
from tasks.ingest.tables.cells import plain_number, text_of
from tasks.records import Split
from tasks.section import Section
from tasks.wording import shorten


def _read_cells(value: object) -> object:
    """One value or a list of them, as a table has their text: YAML's ``5`` and ``true`` are numbers and truths."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str | int | float) for each in values):
        raise ValueError("give one value of a cell, or a list of them")
    return [text_of(each) for each in values]


Cells = Annotated[list[str], BeforeValidator(_read_cells)]


class Folds(Section):
    """Which cells of a column are of which split: ``split: {column: fold, val: 4, test: 5}``, ``{column: is_valid, val:
    true}``. Cells that are named for no split are train's, unless ``train`` has a list, too; empty ones have none."""

    column: str
    """The column."""
    train: Cells = Field(default=[])
    """Cells of what is learned from; by default all others."""
    val: Cells = Field(default=[])
    """Of what choices are made on."""
    test: Cells = Field(default=[])
    """Of what is reported on."""
    pool: Cells = Field(default=[])
    """Of what is taken without its labels."""

    @model_validator(mode="after")
    def _each_cell_is_of_one_split(self) -> Folds:
        told = [{_key(cell): cell for cell in cells} for cells in self._lists.values()]
        if not any(told):
            raise ValueError(
                f"say which cells of {self.column} are of which split: val, test, pool or train, each a list"
            )
        if twice := [cell for one, other in combinations(told, 2) for key, cell in one.items() if key in other]:
            raise ValueError(f"{shorten(twice)} cannot be of several splits")
        return self

    @property
    def _lists(self) -> dict[Split, list[str]]:
        return {"train": self.train, "val": self.val, "test": self.test, "pool": self.pool}

    def split_of(self, cell: str) -> Split | None:
        """The split of a row by its cell.

        Raises:
            ValueError: every split has a list, and the cell is on none.
        """
        if not cell:
            return None
        key = _key(cell)
        for split, cells in self._lists.items():
            if key in map(_key, cells):
                return split
        if self.train:
            raise ValueError(f"{cell!r} in {self.column} is of no split of ingest.source.split")
        return "train"

    def unmet(self, seen: Iterable[str]) -> Iterator[str]:
        """Cells that are named for a split, and that no row has."""
        keys = set(map(_key, seen))
        for split, cells in self._lists.items():
            yield from (f"{split}: {cell}" for cell in cells if _key(cell) not in keys)


SplitColumn = Annotated[
    Annotated[str, Tag("(column)")] | Annotated[Folds, Tag("(cells)")],
    Discriminator(lambda value: "(cells)" if isinstance(value, dict | Folds) else "(column)"),
]
"""What the key ``split`` of a source may be: a column of names of splits, or one of other cells."""


@lru_cache(maxsize=1024)  # every row asks, and columns of splits have few cells
def _key(cell: str) -> str:
    """What spellings of a cell have in common: ``5``, ``5.0``; ``TRUE``, ``True``, and all else that says yes."""
    text = plain_number(look_alike(cell))
    return "true" if text in YES else "false" if text in NO else text
