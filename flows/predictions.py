"""Predictions on their way to a file: in parts while they are made, whole under their name at the end.

Parts lie in the workspace's cache, each named after what it answers: a run that was killed finds what it had done.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet
from filelock import FileLock, Timeout

from tasks.encoding import write_rows
from tasks.errors import ConfigurationError
from tasks.extract.claims import storing
from tasks.fingerprint import fingerprint
from tasks.model.told import Told, columns_of

SUFFIXES = (".parquet", ".csv")

_TOP = pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float64())]))


_CELLS = {"text": pa.string(), "texts": pa.list_(pa.string()), "number": pa.float64(), "top": _TOP}


def schema(told: Sequence[Told]) -> pa.Schema:
    """Columns of predictions: those of `tasks.model.told.columns_of`, path, error (str) and model (str); what an image
    has not is null."""
    fields = [(name, _CELLS[cell]) for name, cell in columns_of(told).items()]
    return pa.schema([*fields, ("path", pa.string()), ("error", pa.string()), ("model", pa.string())])


class Predictions:
    """Parts of one file of predictions.

    Attributes:
        rows, failed: images that have a row, and those of them whose row says why they have no label.
    """

    def __init__(self, target: Path, folder: Path, columns: pa.Schema) -> None:
        self.target, self.folder, self.columns = target, folder, columns
        self.rows = self.failed = 0
        self._parts: list[Path] = []

    @classmethod
    @contextmanager
    def begin(cls, target: Path, cache: Path, columns: pa.Schema, *key: object) -> Iterator[Predictions]:
        """Begin a file, or go on with it.

        Args:
            cache: folder for the parts of all such files; what is left of one is removed once it is written.
            key: what all rows depend on, made of JSON-like values.

        Raises:
            ConfigurationError: another process writes this file.
            StorageError: the disk is full, or a folder cannot be written.
        """
        name = fingerprint(str(target))
        folder = cache / name / fingerprint(*key)
        with storing(cache):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(cache / f"{name}.lock", timeout=0):
                yield cls(target, folder, columns)
        except Timeout as error:
            raise ConfigurationError(f"{target} is being written by another `headstart predict`") from error

    def add(self, key: object, make: Callable[[], Iterable[dict[str, Any]]]) -> bool:
        """Add the rows that answer ``key``: those that are there from a run before, or else those that are made.

        Returns:
            Whether they had to be made.

        Raises:
            StorageError: they cannot be written.
        """
        part = self.folder / f"{fingerprint(key)}.parquet"
        errors = _errors(part)
        is_new = errors is None
        if errors is None:
            table = pa.Table.from_pylist(list(make()), self.columns)
            with storing(self.folder, table.nbytes), _whole(part) as file:
                parquet.write_table(table, file)
            errors = table["error"]
        self.rows += len(errors)
        self.failed += pc.count(errors).as_py()
        self._parts.append(part)
        return is_new

    def finish(self) -> None:
        """Write the file, Parquet or CSV by its name; from then on, the parts are not needed any more.

        Raises:
            StorageError: it cannot be written; nothing of it stays.
        """
        write = _write_csv if self.target.suffix == ".csv" else _write_parquet
        with storing(self.target.parent, sum(part.stat().st_size for part in self._parts)), _whole(self.target) as file:
            write(map(parquet.read_table, self._parts), self.columns, file)
        shutil.rmtree(self.folder.parent, ignore_errors=True)


def _errors(part: Path) -> pa.ChunkedArray | None:
    """The column of a part; None where there is none, or one that a dying machine left unfinished."""
    try:
        return parquet.read_table(part, columns=["error"])["error"]
    except (OSError, pa.ArrowException):
        return None


@contextmanager
def _whole(final: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name whole or not at all."""
    temporary = final.with_name(f".{final.name}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # some disks say only here that they are full
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def _write_parquet(parts: Iterable[pa.Table], columns: pa.Schema, file: IO[bytes]) -> None:
    with parquet.ParquetWriter(file, columns) as writer:
        for part in parts:
            writer.write_table(part)


def _write_csv(parts: Iterable[pa.Table], columns: pa.Schema, file: IO[bytes]) -> None:
    """Lists as JSON, and what is null empty."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    write_rows(text, [columns.names])
    for part in parts:
        write_rows(text, ([_cell(value) for value in row.values()] for row in part.to_pylist()))
    text.flush()
    text.detach()  # else it would close the file


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
