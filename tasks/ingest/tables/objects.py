"""JSON: an object per row, in lines or in one list."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import IO, Any

from tasks.errors import DataError
from tasks.ingest.tables.cells import list_text, several_labels, text_of
from tasks.ingest.tables.columns import DELIMITERS, Row, Wanted, check_columns, found_columns, places_of
from tasks.wording import shorten

AHEAD = 1000
"""Objects that together say at most which columns there are."""

LONGEST = 2**24
"""Signs of a line."""

LARGEST = 2**28
"""Signs of a list, which is read as a whole; lines may be as many as there are."""


def object_rows(stream: IO[bytes], table: Path | str, wanted: Wanted, encoding: str) -> Iterator[Row]:
    """The rows of a JSON file. What an object lacks is empty; the first ones together have all columns.

    Raises:
        MissingColumns: none of the first `AHEAD` objects has a column that is configured.
        ConfigurationError: of an object, several may be meant.
        DataError: this is no JSON, or is laid out in another way.
    """
    values = _values(stream, table, encoding)
    ahead, names = _read_ahead(values, wanted)
    if names is not None:
        split = any(sign in name for name in names for sign in DELIMITERS)
        if len(ahead) == 1 and not split and not found_columns(names, wanted):
            raise DataError(
                f"{table} is one object, with {shorten(names)}: a list of objects, or one a line, is expected, each "
                f"with {' and '.join(wanted.required)}"
            )
        check_columns(names, wanted, table)
    empty = dict.fromkeys([*wanted.required, *found_columns(names or [], wanted)], "")

    @lru_cache(maxsize=AHEAD)
    def columns(keys: tuple[str, ...]) -> Mapping[str, str]:
        return {name: keys[place] for name, place in places_of(keys, wanted, table).items()}

    for number, value in enumerate(chain(ahead, values), 1):
        if isinstance(value, dict):
            yield _row(number, value, columns(tuple(value)), empty, wanted)
        else:
            yield Row(number, {}, problem="is no JSON object with a key for each column")


def _read_ahead(values: Iterator[Any], wanted: Wanted) -> tuple[list[Any], list[str] | None]:
    """The first values, up to the one by which all columns have been named that must be, and the names of their keys;
    None where no object is among them."""
    ahead: list[Any] = []
    names: dict[str, None] | None = None
    needed = {*wanted.required, *wanted.named}
    for value in values:
        ahead.append(value)
        if isinstance(value, dict):
            names = (names or {}) | dict.fromkeys(value)
            if needed <= found_columns(list(names), wanted).keys():
                break
        if len(ahead) == AHEAD:
            break
    return ahead, None if names is None else list(names)


def _row(number: int, value: dict[str, Any], columns: Mapping[str, str], empty: dict[str, str], wanted: Wanted) -> Row:
    cells = dict(empty)
    for name, key in columns.items():
        several = isinstance(value[key], list)
        try:
            cells[name] = list_text(value[key]) if several and name in wanted.lists else text_of(value[key])
        except ValueError as error:
            more = f"; {several_labels(key)}" if several and name in set(wanted.labels) - wanted.lists else ""
            return Row(number, {}, problem=f"{key} {error}{more}")
    return Row(number, cells)


def _values(stream: IO[bytes], table: Path | str, encoding: str) -> Iterator[Any]:
    text = io.TextIOWrapper(stream, encoding)
    first = ""
    while not first.strip() and (line := text.readline(LONGEST)):
        first = line
    if first.lstrip().startswith("["):
        yield from _listed(first + text.read(LARGEST), table)
    elif _is_begun(first):
        yield _parsed(first + text.read(LARGEST), table, "it")
    elif first:
        yield _parsed(first, table, "its first line")
        while line := text.readline(LONGEST):
            if line.strip():
                yield _parsed(line, table)


def _is_begun(line: str) -> bool:
    """Whether a line is the beginning of an object that goes on below it, as programs print one for people."""
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        return line.lstrip().startswith("{") and error.pos >= len(line.rstrip())
    except (ValueError, RecursionError):
        pass
    return False


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
