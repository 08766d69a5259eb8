"""Text with a delimiter: CSV, TSV and their kin, as spreadsheets and programs of all countries write them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import IO, NamedTuple

from tasks.errors import DataError
from tasks.ingest.tables.cells import plain_number
from tasks.ingest.tables.columns import ABOVE, Row, Wanted, columns_of, names_all
from tasks.wording import REASON, brief

DELIMITERS = ",;\t|"

LONGEST = 2**24
"""Signs of a line, and of a cell."""

csv.field_size_limit(
    LONGEST
)  # of which there is one in a process; 131,072 is less than an image in a column of its own


class Head(NamedTuple):
    """The names of a table's columns, the delimiter between them, and the line that they end in."""

    names: list[str]
    delimiter: str
    line: int


def delimited_rows(stream: IO[bytes], table: Path | str, wanted: Wanted, encoding: str) -> Iterator[Row]:
    """The rows of a text table; empty lines are none.

    Raises:
        MissingColumns: no head names the columns.
        DataError: a quote is never closed, or the text is not in this encoding.
    """
    lines = _lines(stream, table, encoding)
    head, lines = _find_head(lines, wanted)
    for name in head.names:
        _check_decoded(name, head.line, table)
    columns = columns_of(head.names, wanted, table)
    for number, (line, cells, problem) in enumerate(_records(lines, head, table), 1):
        if problem is None:
            cells, problem = _fitted(cells, len(head.names))
        if problem is not None:
            yield Row(number, {}, problem=problem)
        elif any(cells):
            yield Row(number, {name: _cell(cells[place], name, line, wanted, table) for name, place in columns.items()})


def _lines(stream: IO[bytes], table: Path | str, encoding: str) -> Iterator[str]:
    """Lines with their ends, whichever of the three these are."""
    # What is no UTF-8 passes here: it may stand in a column that nobody wants, and is told of with its line.
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    text = io.TextIOWrapper(stream, encoding, errors, newline="")
    number = 0
    while line := text.readline(LONGEST):
        number += 1
        if len(line) == LONGEST:
            raise DataError(f"{table}: line {number:,} has more than {LONGEST:,} signs, so this is no table of rows")
        yield line


def _find_head(lines: Iterator[str], wanted: Wanted) -> tuple[Head, Iterator[str]]:
    """The first line that names the wanted columns, with whichever delimiter; where none does, the first that is
    neither empty nor a comment. Also the lines below it."""
    delimiters = DELIMITERS
    above = list(islice(lines, ABOVE))
    first: Head | None = None
    for start, line in enumerate(above):
        if told := re.fullmatch(r'"?sep=(.)"?\s*', line, re.IGNORECASE):
            delimiters = told[1] + delimiters
            continue
        end = _end_of_record(above, start)
        heads = [_head("".join(above[start:end]), sign, end) for sign in delimiters]
        if found := next((head for head in heads if names_all(head.names, wanted)), None):
            return found, chain(above[found.line :], lines)
        if first is None and line.strip() and not line.startswith("#"):
            first = max(heads, key=lambda head: len(head.names))
    return first or Head([], ",", 0), lines


def _end_of_record(lines: Sequence[str], start: int) -> int:
    """The line after a record, whose quoted cells may hold ends of lines."""
    quotes = 0
    for index in range(start, len(lines)):
        quotes += lines[index].count('"')
        if quotes % 2 == 0:
            return index + 1
    return start + 1


def _head(text: str, delimiter: str, line: int) -> Head:
    cells = next(csv.reader(text.removeprefix("#").lstrip().splitlines(keepends=True), delimiter=delimiter), [])
    return Head([cell.strip() for cell in cells], delimiter, line)


def _records(lines: Iterator[str], head: Head, table: Path | str) -> Iterator[tuple[int, list[str], str | None]]:
    """The line, the cells and the problem of every record that is no empty line."""
    reader = csv.reader(lines, delimiter=head.delimiter, skipinitialspace=True, strict=True)
    while True:
        line = head.line + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if head.line + reader.line_num > line or "unexpected end" in str(error):
                raise DataError(
                    f'{table}: line {line:,} opens a quote (") that is not closed, so the rows below it cannot be told '
                    'apart. Close it, or write "" where the sign is meant, and save again'
                ) from error
            yield line, [], f'line {line:,}: a quote (") within a quoted cell is written twice ({error})'
        else:
            if cells:
                yield line, cells, None


def _fitted(cells: list[str], expected: int) -> tuple[list[str], str | None]:
    """The cells without empty ones beyond the head, and what is the matter where others are left or some lack."""
    cells = [cell.strip() for cell in cells]
    if len(cells) != expected and (len(cells) < expected or any(cells[expected:])):
        return cells, f"{len(cells)} cells where {expected} are expected"
    return cells[:expected], None


def _cell(cell: str, column: str, line: int, wanted: Wanted, table: Path | str) -> str:
    if not cell.isascii():
        _check_decoded(cell, line, table)
    return cell if column == wanted.image else plain_number(cell)


def _check_decoded(text: str, line: int, table: Path | str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        told = text.encode(errors="surrogateescape").decode("windows-1252", "replace")
        raise DataError(
            f"{table}: line {line:,} is not UTF-8. Save the table as UTF-8 (Excel: 'CSV UTF-8'), or say what it is: "
            f"with ingest.source.encoding: windows-1252 the cell reads {brief(told, REASON)!r}"
        ) from None
