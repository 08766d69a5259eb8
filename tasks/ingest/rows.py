"""The rows of a table, CSV or Parquet, one after another."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from tasks.errors import ConfigurationError, DataError
from tasks.ingest.storage import open_stream, told_as_data_error

ROWS = 10_000
"""Rows held at once."""


def read_rows(table: Path | str, columns: tuple[list[str], list[str]]) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Number and cells of every row, the first row after the head being 1, or what is the matter with it."""
    name = str(table).lower()
    reader = _parquet_rows if name.endswith((".parquet", ".pq")) else _csv_rows
    try:
        with told_as_data_error(table) if isinstance(table, str) else nullcontext(), open_stream(table) as stream:
            yield from reader(stream, table, columns)
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the table
        raise DataError(f"{table} cannot be read as a table: {' '.join(str(error).split())}") from error


def _csv_rows(
    stream: Any, table: Path | str, columns: tuple[list[str], list[str]]
) -> Iterator[tuple[int, dict[str, str] | str]]:
    head = stream.readline().decode("utf-8-sig")
    stream.seek(0)
    delimiter = max(",;\t", key=head.count)
    names = [name.strip() for name in next(csv.reader([head], delimiter=delimiter), [])]
    wanted = _present(names, columns, table)
    broken: dict[int, str] = {}

    def note(row: Any) -> str:
        number = (row.number or 0) - 1  # the head is Arrow's first row
        broken[number] = f"row {number}: {row.actual_columns} cells where {row.expected_columns} are expected"
        return "skip"

    batches = arrow_csv.open_csv(
        stream,
        read_options=arrow_csv.ReadOptions(use_threads=False, block_size=1 << 20, column_names=names, skip_rows=1),
        parse_options=arrow_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=note, newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), include_columns=wanted, strings_can_be_null=False
        ),
    )
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            while number in broken:
                number += 1
            yield number, row
    yield from broken.items()


def _parquet_rows(
    stream: Any, table: Path | str, columns: tuple[list[str], list[str]]
) -> Iterator[tuple[int, dict[str, str] | str]]:
    file = parquet.ParquetFile(stream)
    wanted = _present(file.schema_arrow.names, columns, table)
    number = 0
    for batch in file.iter_batches(ROWS, columns=wanted):
        for row in batch.to_pylist():
            number += 1
            yield number, {name: _text(value) for name, value in row.items()}


def _text(value: Any) -> str:
    if isinstance(value, list):
        raise pa.ArrowInvalid("a column holds lists; write several labels as text with ingest.source.separator")
    return "" if value is None or value != value else str(value)  # a NaN differs from itself


def _present(names: list[str], columns: tuple[list[str], list[str]], table: Path | str) -> list[str]:
    required, optional = columns
    if missing := [name for name in required if name not in names]:
        raise ConfigurationError(
            f"{table} has no column {', '.join(missing)}; it has {', '.join(names)}. "
            "ingest.source.image and ingest.source.label name the columns"
        )
    return [*required, *(name for name in optional if name in names)]
