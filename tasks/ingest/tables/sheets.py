"""Excel's workbooks: the first sheet."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from tasks.errors import DataError
from tasks.ingest.tables.cells import text_of
from tasks.ingest.tables.columns import ABOVE, MissingColumns, Row, Wanted, columns_of, names_all
from tasks.wording import shorten

CSV_UTF8 = "save the sheet as 'CSV UTF-8'"

MERGED = re.compile(rb'mergeCell [^>]*?ref="([A-Z]+)(\d+):[A-Z]+(\d+)"')
FORMULA = re.compile(rb"<(?:\w+:)?f[\s/>]")
BLOCK = 2**20


class Fault(str):
    """What stands in a cell whose formula failed, such as ``#N/A``."""


class Merged(NamedTuple):
    """Cells below each other that were made one: rows from 1, the column from 0."""

    first: int
    last: int
    column: int


def sheet_rows(stream: IO[bytes], table: Path | str, wanted: Wanted) -> Iterator[Row]:
    """The rows of a workbook's first sheet; rows of empty cells are none. Formulas count as what they last gave, and a
    merged cell holds for all of its rows.

    Raises:
        MissingColumns: no head names the columns.
        DataError: this is no workbook of Excel, the package that reads it is not installed, or a column holds formulas
            that nobody has computed.
    """
    if (what := _kind(stream)) != "xlsx":
        raise DataError(f"{table} is {what}")
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise DataError(
            f"{table} is an Excel workbook, which needs another package: pip install 'headstart[excel]', or {CSV_UTF8}"
        ) from error
    above, names, rows = _find_head(_values(load_workbook, stream, table), wanted)
    try:
        columns = columns_of(names, wanted, table)
    except MissingColumns as error:
        others = load_workbook(stream, read_only=True).sheetnames[1:]
        hint = f"; only the first sheet is read, and there are {shorten(others)}: put the table first" if others else ""
        raise MissingColumns(f"{error}{hint}") from error
    _check_alone(load_workbook, stream, table, wanted)
    empty: set[str] = set()
    for number, values in enumerate(rows, 1):
        there = {name: values[place] if place < len(values) else None for name, place in columns.items()}
        cells = {name: text_of(value) for name, value in there.items()}
        if any(cells.values()):
            empty |= {name for name, text in cells.items() if not text}
        if faults := [f"column {name} holds {value}" for name, value in there.items() if isinstance(value, Fault)]:
            yield Row(number, {}, problem=f"{faults[0]}, an error of Excel")
        elif any(cells.values()):
            yield Row(number, cells)
    if empty and _has_formulas(load_workbook, stream):
        _check_computed(load_workbook, stream, table, {columns[name]: name for name in empty}, above)


def _check_alone(load: Callable[..., Any], stream: IO[bytes], table: Path | str, wanted: Wanted) -> None:
    """Raise where further sheets that are shown begin with the same columns."""
    if sum(name.startswith("xl/worksheets/") for name in zipfile.ZipFile(stream).namelist()) < 2:
        return
    first, *others = load(stream, read_only=True, data_only=True).worksheets
    alike = []
    for sheet in others:
        sheet.reset_dimensions()
        rows = ([text_of(cell) for cell in row] for row in islice(sheet.iter_rows(values_only=True), ABOVE))
        if sheet.sheet_state == "visible" and any(names_all(names, wanted) for names in rows):
            alike.append(sheet.title)
    if alike:
        raise DataError(
            f"{table}: the sheets {shorten([first.title, *alike])} hold such a table each, and only the first is read: "
            "join them in it, with a column split where they are splits, or hide the others"
        )


def _values(load: Callable[..., Any], stream: IO[bytes], table: Path | str) -> Iterator[tuple[Any, ...]]:
    # Of styles and validations that it passes over, which no row depends on.
    warnings.filterwarnings("ignore", module="openpyxl")
    try:
        sheet = _first_sheet(load, stream, data_only=True)
        with sheet._get_source() as source:
            merged = _merged(source)
        rows = (
            [Fault(cell.value) if cell.data_type == "e" else cell.value for cell in row] for row in sheet.iter_rows()
        )
        yield from _filled(rows, merged)
    except Exception as error:  # every part of a damaged workbook fails in its own way
        raise DataError(f"{table} is a damaged Excel workbook ({error}): save it once more") from error


def _first_sheet(load: Callable[..., Any], stream: IO[bytes], data_only: bool) -> Any:
    sheet = load(stream, read_only=True, data_only=data_only).worksheets[0]
    sheet.reset_dimensions()  # else rows end where the file says that they do, which not every exporter keeps up
    return sheet


def _merged(source: IO[bytes]) -> list[Merged]:
    """Merged cells of more rows than one, from a sheet's XML, which names them behind all rows. openpyxl knows of them
    only where it holds the whole sheet in memory."""
    from openpyxl.utils import column_index_from_string

    last = b""
    while block := source.read(BLOCK):
        last = (last + block)[-2 * BLOCK :] if b"mergeCell" not in last else last + block
    found = ((column, int(first), int(end)) for column, first, end in MERGED.findall(last))
    return sorted(
        Merged(first, end, column_index_from_string(column.decode()) - 1) for column, first, end in found if end > first
    )


def _filled(rows: Iterable[list[Any]], merged: list[Merged]) -> Iterator[tuple[Any, ...]]:
    """Rows in which the value of a merged cell stands in all rows that it covers, of its first column."""
    begun: list[tuple[Merged, Any]] = []
    waiting = list(reversed(merged))
    for number, row in enumerate(rows, 1):
        begun = [each for each in begun if each[0].last >= number]
        for cell, value in begun:
            row += [None] * (cell.column + 1 - len(row))
            row[cell.column] = value
        while waiting and waiting[-1].first == number:
            cell = waiting.pop()
            begun.append((cell, row[cell.column] if cell.column < len(row) else None))
        yield tuple(row)


def _has_formulas(load: Callable[..., Any], stream: IO[bytes]) -> bool:
    """Whether the first sheet has any, by its XML alone, which takes a small part of reading its cells."""
    last = b""
    with _first_sheet(load, stream, data_only=True)._get_source() as source:
        while block := source.read(BLOCK):
            if FORMULA.search(last + block):
                return True
            last = block[-64:]
    return False


def _check_computed(
    load: Callable[..., Any], stream: IO[bytes], table: Path | str, columns: dict[int, str], above: int
) -> None:
    """Raise where a column, by its place, holds a formula that nobody has computed, below so many rows.

    A program that computes an empty text says that it is a text.
    """
    written, computed = (_first_sheet(load, stream, only).iter_rows() for only in (False, True))
    for number, (formulas, values) in enumerate(zip(written, computed, strict=False), 1):
        for place, name in columns.items() if number > above else ():
            if place >= len(formulas) or formulas[place].data_type != "f":
                continue
            if place >= len(values) or (values[place].value is None and values[place].data_type == "n"):
                raise DataError(
                    f"{table}, row {number}: column {name} holds a formula whose value no program has computed: open "
                    "the table in Excel or LibreOffice and save it, or write values"
                )


def _kind(stream: IO[bytes]) -> str:
    """What a ZIP file is: ``xlsx``, or words that follow "it is"."""
    try:
        names = zipfile.ZipFile(stream).namelist()
    except zipfile.BadZipFile as error:
        return f"a damaged Excel workbook or ZIP archive ({error})"
    if "xl/workbook.xml" in names:
        return "xlsx"
    if "xl/workbook.bin" in names:
        return f"an Excel workbook of the binary kind (.xlsb): {CSV_UTF8}"
    if "content.xml" in names:
        return f"an OpenDocument file (.ods): {CSV_UTF8}"
    return "a ZIP archive: unpack it, and name the table in it"


def _find_head(rows: Iterator[tuple[Any, ...]], wanted: Wanted) -> tuple[int, list[str], Iterator[tuple[Any, ...]]]:
    """The first row that names the wanted columns, else the first that is not empty: its number from 1, its names, and
    the rows below it."""
    above = list(islice(rows, ABOVE))
    named = [[text_of(value) for value in row] for row in above]
    found = (number for number, names in enumerate(named) if names_all(names, wanted))
    filled = (number for number, names in enumerate(named) if any(names))
    number = next(found, next(filled, -1))
    return number + 1, (named[number] if number >= 0 else []), chain(above[number + 1 :], rows)
