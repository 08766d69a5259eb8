"""The rows of a table, which is opened by what it is, not by what it is called."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, cast

import pyarrow as pa

from tasks.encoding import encoding_of
from tasks.errors import DataError
from tasks.ingest import compression, formats
from tasks.ingest.formats import extension_of
from tasks.ingest.storage import open_stream, told_as_data_error
from tasks.ingest.tables.columnar import columnar_rows
from tasks.ingest.tables.columns import MissingColumns, Row, Wanted
from tasks.ingest.tables.delimited import NotUtf8, delimited_rows
from tasks.ingest.tables.objects import object_rows
from tasks.ingest.tables.sheets import sheet_rows

START = 4096
"""Bytes that say what a file is; an even number, for UTF-16."""

PARQUET = b"PAR1"
ZIP = b"PK\x03\x04"

KNOWN = "CSV, TSV, JSON lines, Parquet or Excel (.xlsx)"


def read_rows(table: Path | str, wanted: Wanted, encoding: str | None = None) -> Generator[Row]:
    """Every row of a table, one after another: memory does not grow with their number.

    Args:
        encoding: of a text table without a byte order mark; UTF-8 if None.

    Raises:
        ConfigurationError: the table has not the columns that are wanted.
        DataError: it cannot be read, or is none.
    """
    with _opened(table) as raw:
        start = raw.read(START)
        raw.seek(0)
        if compression.is_compressed(start):
            with compression.uncompressed(raw, start) as plain:
                stream = io.BufferedReader(cast(io.RawIOBase, plain))
                yield from _text_rows(stream, stream.peek(START)[:START], table, wanted, encoding)
        elif start.startswith(PARQUET):
            yield from columnar_rows(raw, table, wanted)
        elif start.startswith(ZIP):
            yield from sheet_rows(raw, table, wanted)
        else:
            yield from _text_rows(raw, start, table, wanted, encoding)


@contextmanager
def _opened(table: Path | str) -> Iterator[IO[bytes]]:
    """A table's bytes; what goes wrong with them is a `DataError`."""
    try:
        with told_as_data_error(table) if isinstance(table, str) else nullcontext(), open_stream(table) as raw:
            yield raw
    except UnicodeDecodeError as error:
        raise DataError(
            f"{table} is not {error.encoding} throughout ({error.reason}): save it as UTF-8, or name its encoding in "
            "ingest.source.encoding, for example windows-1252"
        ) from error
    except UnicodeError as error:  # of UTF-16 and UTF-32, which want to begin with their mark
        raise DataError(
            f"{table} is not in the encoding named ({error}): save it as UTF-8, or name one without a byte order mark "
            "in ingest.source.encoding, for example utf-16-le"
        ) from error
    except (pa.ArrowException, csv.Error, OSError, *compression.DAMAGED) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the table
        raise DataError(f"{table} cannot be read as a table: {' '.join(str(error).split())}. Is it whole?") from error


def _text_rows(
    stream: IO[bytes], start: bytes, table: Path | str, wanted: Wanted, encoding: str | None
) -> Iterator[Row]:
    if not start.strip():
        raise DataError(f"{table} is empty: a head such as {','.join(wanted.required)} is expected, and a row an image")
    encoding = encoding_of(start) or encoding or "utf-8"
    rows = object_rows if start.decode(encoding, "ignore").lstrip()[:1] in tuple("[{") else delimited_rows
    try:
        yield from rows(stream, table, wanted, encoding)
    except (MissingColumns, NotUtf8):
        if (what := _not_text(start)) is None:
            raise
        raise DataError(f"{table} is {what}; a table is expected: {KNOWN}") from None


def _not_text(start: bytes) -> str | None:
    """What a file is that is no text, as far as one can know."""
    if (image := extension_of(start)) != "bin":
        return f"an image ({image})"
    binary = "no text" if b"\0" in start and encoding_of(start) is None else None
    what = formats.known(start) or binary
    return what if what != formats.TEXT else None
