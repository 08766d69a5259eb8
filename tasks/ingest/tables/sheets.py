"""Excel's workbooks: the first sheet."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from tasks.errors import DataError
from tasks.ingest.tables.cells import text_of
from tasks.ingest.tables.columns import ABOVE, Row, Wanted, columns_of, names_all

CSV_UTF8 = "save the sheet as 'CSV UTF-8'"


def sheet_rows(stream: IO[bytes], table: Path | str, wanted: Wanted) -> Iterator[Row]:
    """The rows of a workbook's first sheet; rows of empty cells are none. Formulas count as what they last gave.

    Raises:
        MissingColumns: no head names the columns.
        DataError: this is no workbook of Excel, or the package that reads it is not installed.
    """
    if (what := _kind(stream)) != "xlsx":
        raise DataError(f"{table} is {what}")
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise DataError(
            f"{table} is an Excel workbook, which needs another package: pip install 'headstart[excel]', or {CSV_UTF8}"
        ) from error
    names, rows = _find_head(_values(load_workbook, stream, table), wanted)
    columns = columns_of(names, wanted, table)
    for number, values in enumerate(rows, 1):
        cells = {name: text_of(values[place]) if place < len(values) else "" for name, place in columns.items()}
        if any(cells.values()):
            yield Row(number, cells)


def _values(load: Callable[..., Any], stream: IO[bytes], table: Path | str) -> Iterator[tuple[Any, ...]]:
    # Of styles and validations that it passes over, which no row depends on.
    warnings.filterwarnings("ignore", module="openpyxl")
    try:
        book = load(stream, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # else rows end where the file says that they do, which not every exporter keeps up
        yield from sheet.iter_rows(values_only=True)
    except Exception as error:  # every part of a damaged workbook fails in its own way
        raise DataError(f"{table} is a damaged Excel workbook ({error}): save it once more") from error


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


def _find_head(rows: Iterator[tuple[Any, ...]], wanted: Wanted) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """The first row that names the wanted columns, else the first that is not empty; and the rows below it."""
    above = list(islice(rows, ABOVE))
    named = [[text_of(value) for value in row] for row in above]
    found = (number for number, names in enumerate(named) if names_all(names, wanted))
    filled = (number for number, names in enumerate(named) if any(names))
    number = next(found, next(filled, -1))
    return (named[number] if number >= 0 else []), chain(above[number + 1 :], rows)
