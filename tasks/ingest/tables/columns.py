"""Which columns of a table are meant, and its rows."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from tasks.errors import ConfigurationError
from tasks.wording import shorten

DELIMITERS = ",;\t|"

ABOVE = 20
"""Lines or rows that may stand above the head: empty ones, comments, a title, Excel's ``sep=;``."""


class Wanted(NamedTuple):
    """Names of columns, as configured.

    Attributes:
        image: paths or URLs, or the images themselves.
        labels: one or several.
        optional: read where they are there.
        named: those of the optional ones that the configuration names itself, and so must be there, with its keys.
        lists: those of the labels that a list of several may be of, whose cells then hold its text; see `list_text`.
    """

    image: str
    labels: list[str]
    optional: list[str]
    named: Mapping[str, str] = MappingProxyType({})
    lists: frozenset[str] = frozenset()

    @property
    def required(self) -> list[str]:
        """Those that every table must have, by which its head is told."""
        return [self.image, *self.labels]


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        number: 1 for the first one after the head.
        cells: text by the column's configured name; empty where there is nothing.
        image: the image itself, where the table holds images.
        problem: why nothing can be said of it.
    """

    number: int
    cells: dict[str, str]
    image: bytes | None = None
    problem: str | None = None


class MissingColumns(ConfigurationError):
    """A table has no column of a name that is configured."""


def found_columns(names: Sequence[str], wanted: Wanted) -> dict[str, list[int]]:
    """Where each wanted column stands: those of exactly this name, else those whose name differs in case or in spaces
    around it only."""
    return {name: found for name in (*wanted.required, *wanted.optional) if (found := _called(name, names))}


def names_all(names: Sequence[str], wanted: Wanted) -> bool:
    """Whether these are the names of a table that has all columns it must have."""
    return found_columns(names, wanted).keys() >= set(wanted.required)


def _called(name: str, names: Sequence[str]) -> list[int]:
    exactly = [index for index, other in enumerate(names) if other == name]
    return exactly or [index for index, other in enumerate(names) if _plain(other) == _plain(name)]


def _plain(name: str) -> str:
    """A name without what nobody sees: a byte order mark more than there should be, joiners, directions of writing."""
    text = unicodedata.normalize("NFKC", name)
    return "".join(sign for sign in text if unicodedata.category(sign) != "Cf").strip().casefold()


def columns_of(names: Sequence[str], wanted: Wanted, table: Path | str, delimiter: str | None = None) -> dict[str, int]:
    """Where each wanted column that is there stands, counted from 0.

    Args:
        delimiter: between the cells of a text.

    Raises:
        MissingColumns: an image's or label's is not there, or another that the configuration names.
        ConfigurationError: several may be meant.
    """
    return _single(check_columns(names, wanted, table, delimiter), names, table)


def check_columns(
    names: Sequence[str], wanted: Wanted, table: Path | str, delimiter: str | None = None
) -> dict[str, list[int]]:
    """Whether these are all columns that are configured; returns `found_columns`.

    Args:
        delimiter: between the cells of a text, which may lack a head.

    Raises:
        MissingColumns: an image's or label's is not there, or another that the configuration names.
    """
    found = found_columns(names, wanted)
    there = shorten(names, 12) or "nothing"
    missing = [name for name in wanted.required if name not in found]
    if missing and any(names_all(name.split(sign), wanted) for name in names for sign in DELIMITERS):
        raise MissingColumns(
            f"{table} has all columns in one cell ({there}): save it again with each in a cell of its own"
        )
    if missing and len(names) == 1 and not found:
        raise MissingColumns(
            f"{table} has no column {shorten(missing)}: its first row is one cell ({there}). Cells are parted by a "
            f"comma, a semicolon, a tab or |, and the first row names them, as {','.join(wanted.required)}"
        )
    if missing:
        raise MissingColumns(
            f"{table} has no column {shorten(missing)}; it has {there}. Name its columns in "
            f"ingest.source.image and ingest.source.label{_headless(names, wanted, delimiter)}"
        )
    if missing := [name for name in wanted.named if name not in found]:
        keys = " and ".join(f"ingest.source.{wanted.named[name]}" for name in missing)
        raise MissingColumns(
            f"{table} has no column {shorten(missing)}; it has {there}. Name its own in {keys}, or leave that out"
        )
    return found


def _headless(names: Sequence[str], wanted: Wanted, delimiter: str | None) -> str:
    """What to do with a text whose first row has no names."""
    if delimiter is None:
        return ""
    line = delimiter.join(wanted.required).replace("\t", "<tab>")
    told = "; where these are no names but the first row, write "
    if len(names) == len(wanted.required):
        return f"{told}the line {line} above it"
    return f"{told}a line above it that names all {len(names)} columns, as in {line}"


def places_of(names: Sequence[str], wanted: Wanted, table: Path | str) -> dict[str, int]:
    """Where those of the wanted columns stand that are there, counted from 0.

    Raises:
        ConfigurationError: several may be meant.
    """
    return _single(found_columns(names, wanted), names, table)


def _single(found: dict[str, list[int]], names: Sequence[str], table: Path | str) -> dict[str, int]:
    for name, places in found.items():
        if len(places) > 1:
            called = shorten(names[place] for place in places)
            raise ConfigurationError(
                f"{table} has several columns {name} ({called}): rename all but the one that is meant"
            )
    return {name: place for name, (place,) in found.items()}
