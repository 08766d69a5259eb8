"""Text with a delimiter: CSV, TSV and their kin, as spreadsheets and programs of all countries write them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, NamedTuple

from tasks.errors import DataError
from tasks.ingest.tables.cells import plain_number
from tasks.ingest.tables.columns import ABOVE, DELIMITERS, Row, Wanted, columns_of, names_all
from tasks.wording import REASON, brief

QUOTED = re.compile(rf'[\ufeff\s]*"((?:[^"]++|"")*+)"[{re.escape(DELIMITERS)}\s]*')
"""A line that is one quoted cell, perhaps with empty ones behind it."""

LONGEST = 2**24
"""Signs of a line, and of a cell."""

# There is one in a process; 131,072, the default, is less than an image in a column of its own.
csv.field_size_limit(LONGEST)


class NotUtf8(DataError):
    """A text is in another encoding."""


class Head(NamedTuple):
    """The names of a table's columns, the delimiter between them, and the line that they end in."""

    names: list[str]
    delimiter: str
    line: int


def delimited_rows(stream: IO[bytes], table: Path | str, wanted: Wanted, encoding: str) -> Iterator[Row]:
    """The rows of a text table; empty lines are none.

    Raises:
        MissingColumns: no head names the columns.
        NotUtf8: the text is in another encoding.
        DataError: a quote is never closed.
    """
    # What is no UTF-8 passes here: it may stand in a column that nobody wants, and is told of with its line.
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    text = io.TextIOWrapper(stream, encoding, errors, newline="")  # lines end in any of the three ways
    head, lines = _find_head(iter(partial(text.readline, LONGEST), ""), wanted)
    if not names_all(head.names, wanted):
        _check_decoded(head.names, head.line, table)
    columns = columns_of(head.names, wanted, table, head.delimiter)
    for number, (line, cells, problem) in enumerate(_records(lines, head, table), 1):
        problem = problem or _misfit(cells, len(head.names))
        if problem is not None:
            yield Row(number, {}, problem=problem)
        elif any(cells):
            yield Row(number, _told(cells, columns, wanted.image, line, table))


def _find_head(lines: Iterator[str], wanted: Wanted) -> tuple[Head, Iterator[str]]:
    """The first line that names the wanted columns, with whichever delimiter; where none does, the first that is
    neither empty nor a comment. Also the lines below it, bare where each is one quoted cell: so Excel saves a table of
    which it did not know the delimiter."""
    delimiters = DELIMITERS
    above = list(islice(lines, ABOVE))
    first: Head | None = None
    for start, line in enumerate(above):
        if told := re.fullmatch(r'"?sep=(.)"?\s*', line, re.IGNORECASE):
            delimiters = told[1] + delimiters
            continue
        end = _end_of_record(above, start)
        plain = [_head("".join(above[start:end]), sign, end) for sign in delimiters]
        if found := next((head for head in plain if names_all(head.names, wanted)), None):
            return found, chain(above[found.line :], lines)
        heads = [_head(_bare(line), sign, start + 1) for sign in delimiters]
        if found := next((head for head in heads if names_all(head.names, wanted)), None):
            return found, map(_bare, chain(above[found.line :], lines))
        if first is None and line.strip() and not line.startswith("#"):
            first = max(plain, key=lambda head: len(head.names))
    return first or Head([], ",", 0), lines


def _bare(line: str) -> str:
    """What a line holds that is one quoted cell; any other as it is."""
    found = QUOTED.fullmatch(line)
    return found[1].replace('""', '"') + "\n" if found else line


def _end_of_record(lines: Sequence[str], start: int) -> int:
    """The line after a record, whose quoted cells may hold ends of lines."""
    quotes = 0
    for index in range(start, len(lines)):
        quotes += lines[index].count('"')
        if quotes % 2 == 0:
            return index + 1
    return start + 1


def _head(text: str, delimiter: str, line: int) -> Head:
    # A tab before the first name is a delimiter: pandas gives the column of its index no name.
    lines = io.StringIO(text.lstrip("\ufeff").removeprefix("#").lstrip(" "), newline="")
    cells = next(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), [])
    return Head([cell.strip() for cell in cells], delimiter, line)


def _records(lines: Iterator[str], head: Head, table: Path | str) -> Iterator[tuple[int, list[str], str | None]]:
    """The line, the cells and the problem of every record that is no empty line."""
    last = ""

    def read() -> Iterator[str]:
        nonlocal last
        for last in lines:  # noqa: UP028 (it is kept)
            yield last

    reader = csv.reader(read(), delimiter=head.delimiter, skipinitialspace=True, strict=True)
    while True:
        line = head.line + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if head.line + reader.line_num > line or "unexpected end" in str(error) or "limit" in str(error):
                raise DataError(
                    f'{table}: line {line:,} opens a quote (") that is not closed, so the rows below it cannot be told '
                    'apart. Close it, or write "" where the sign is meant, and save again'
                ) from error
            yield line, *_mended(last, head.delimiter)
        else:
            if cells:
                yield line, cells, None


def _mended(line: str, delimiter: str) -> tuple[list[str], str | None]:
    """The cells of a line that has quotes where they may not be, if only spaces behind them are to blame."""
    text = re.sub(rf'" +(?={re.escape(delimiter)}|$)', '"', line.rstrip(" \r\n"))
    try:
        return next(csv.reader([text], delimiter=delimiter, skipinitialspace=True, strict=True)), None
    except csv.Error as error:
        return [], f'a quote (") within a quoted cell is written twice ({error})'


def _misfit(cells: list[str], expected: int) -> str | None:
    """What is the matter where cells lack, or stand beyond the head and are not empty."""
    if len(cells) == expected or (len(cells) > expected and not any(cell.strip() for cell in cells[expected:])):
        return None
    return f"{len(cells)} cells where {expected} are expected"


def _told(cells: list[str], columns: dict[str, int], image: str, line: int, table: Path | str) -> dict[str, str]:
    told = {name: cells[place].strip() for name, place in columns.items()}
    text = "".join(told.values())
    if not text.isascii():
        _check_decoded(told.values(), line, table)
    if ".0" in text:
        told = {name: cell if name == image else plain_number(cell) for name, cell in told.items()}
    return told


def _check_decoded(texts: Iterable[str], line: int, table: Path | str) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            told = text.encode(errors="surrogateescape").decode("windows-1252", "replace")
            raise NotUtf8(
                f"{table}: line {line:,} is not UTF-8. Save the table as UTF-8 (Excel: 'CSV UTF-8'), or say what it "
                f"is: with ingest.source.encoding: windows-1252 the cell reads {brief(told, REASON)!r}"
            ) from None
