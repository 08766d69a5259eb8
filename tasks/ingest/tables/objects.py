"""JSON: an object per row, in lines or in one list."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tasks.errors import DataError
from tasks.ingest.tables.cells import text_of
from tasks.ingest.tables.columns import Row, Wanted, columns_of

LONGEST = 2**24
"""Signs of a line."""

LARGEST = 2**28
"""Signs of a list, which is read as a whole; lines may be as many as there are."""


def object_rows(stream: IO[bytes], table: Path | str, wanted: Wanted, encoding: str) -> Iterator[Row]:
    """The rows of a JSON file. The first object says which columns there are; in others, what lacks is empty.

    Raises:
        MissingColumns: the first object has not all that are configured.
        DataError: this is no JSON, or is laid out in another way.
    """
    columns: dict[str, str] | None = None
    for number, value in enumerate(_values(stream, table, encoding), 1):
        if not isinstance(value, dict):
            yield Row(number, {}, problem="is no JSON object with a key for each column")
            continue
        if columns is None:
            names = list(value)
            columns = {name: names[place] for name, place in columns_of(names, wanted, table).items()}
        yield _row(number, value, columns)


def _row(number: int, value: dict[str, Any], columns: dict[str, str]) -> Row:
    cells = {}
    for name, key in columns.items():
        try:
            cells[name] = text_of(value.get(key))
        except ValueError as error:
            return Row(number, {}, problem=f"{key} {error}")
    return Row(number, cells)


def _values(stream: IO[bytes], table: Path | str, encoding: str) -> Iterator[Any]:
    text = io.TextIOWrapper(stream, encoding)
    first = ""
    while not first.strip() and (line := text.readline(LONGEST)):
        first = line
    if first.lstrip().startswith("["):
        yield from _listed(first + text.read(LARGEST), table)
    elif first:
        yield _parsed(first, table, "its first line")
        while line := text.readline(LONGEST):
            if line.strip():
                yield _parsed(line, table)


def _listed(text: str, table: Path | str) -> list[Any]:
    if len(text) > LARGEST:
        raise DataError(f"{table} is a list of more than {LARGEST:,} signs: save it as JSON lines, an object a line")
    return _parsed(text, table, "it")


def _parsed(text: str, table: Path | str, what: str = "") -> Any:
    """A value; of a line that is no JSON, where all depends on ``what``, an error, else nothing."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if not what:
            return None
        raise DataError(
            f"{table} is no JSON that holds rows ({what}: {error}): an object a line is expected, or a list of objects"
        ) from error
