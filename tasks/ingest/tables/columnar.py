"""Parquet: typed columns, among them images as the Hugging Face Hub keeps them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as parquet

from tasks.errors import ConfigurationError
from tasks.ingest.tables.cells import class_name, list_text, several_labels, text_of
from tasks.ingest.tables.columns import MissingColumns, Row, Wanted, columns_of

ROWS = 10_000
"""Rows held at once."""

IMAGES = 32
"""Rows held at once where they hold images."""

LONGEST_PATH = 4096
"""Bytes; what is longer in a column of bytes is no path."""


def columnar_rows(stream: IO[bytes], table: Path | str, wanted: Wanted) -> Iterator[Row]:
    """The rows of a Parquet file. Where no column is called as configured, images are taken from the only one that
    holds any in the Hub's form: a struct of ``bytes`` and ``path``.

    Raises:
        ConfigurationError: a column is not there, or holds several values a row.
    """
    # Buffered, else a row group's whole columns are read at once: with images in them, more than memory.
    file = parquet.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False)
    schema = file.schema_arrow
    columns = _columns(schema, wanted, table)
    names = [schema.names[place] for place in columns.values()]
    classes = {name: _class_names(schema, schema.names[place]) for name, place in columns.items()}
    number = 0
    rows = IMAGES if _may_hold_images(schema.types[columns[wanted.image]]) else ROWS
    for batch in file.iter_batches(rows, columns=names):
        for values in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
            number += 1
            yield _row(number, dict(zip(columns, values, strict=True)), wanted, classes)


def _columns(schema: pa.Schema, wanted: Wanted, table: Path | str) -> dict[str, int]:
    try:
        columns = columns_of(schema.names, wanted, table)
    except MissingColumns:
        images = [name for name, kind in zip(schema.names, schema.types, strict=True) if _is_image(kind)]
        if len(images) != 1:
            raise
        found = columns_of(schema.names, wanted._replace(image=images[0]), table)
        columns = {wanted.image if name == images[0] else name: place for name, place in found.items()}
    for name, place in columns.items():
        kind, called = schema.types[place], schema.names[place]
        if not pa.types.is_nested(kind) or (name == wanted.image and _is_image(kind)):
            continue
        if _is_list(kind) and name in wanted.lists:
            continue
        what, more = "one value a row is", ""
        if name == wanted.image:
            what = "a path, or an image as the bytes of its file, is"
        elif _is_list(kind) and name in wanted.labels:
            more = f"; {several_labels(called)}"
        raise ConfigurationError(f"{table}: column {called} holds {kind}, where {what} expected{more}")
    return columns


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_image(kind: pa.DataType) -> bool:
    """Whether a column is one of images, as the Hub writes it."""
    return pa.types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind.fields}


def _may_hold_images(kind: pa.DataType) -> bool:
    return _is_image(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _class_names(schema: pa.Schema, column: str) -> list[str] | None:
    """Names of the classes that a column or its lists count, where the Hub's notes beside the columns tell them."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
        feature = feature.get("feature", feature)
        return list(map(str, feature["names"])) if feature["_type"] == "ClassLabel" else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _row(number: int, values: dict[str, Any], wanted: Wanted, classes: dict[str, list[str] | None]) -> Row:
    image, path = _image(values.pop(wanted.image))
    cells = {wanted.image: path}
    for name, value in values.items():
        try:
            if isinstance(value, list):
                value = [class_name(each, names) for each in value] if (names := classes[name]) else value
                cells[name] = list_text(value)
            else:
                cells[name] = class_name(value, names) if (names := classes[name]) else text_of(value)
        except ValueError as error:
            return Row(number, {}, problem=f"column {name} {error}")
    return Row(number, cells, image)


def _image(value: Any) -> tuple[bytes | None, str]:
    """An image itself, or where it lies."""
    if isinstance(value, dict):
        return (value["bytes"], "") if value["bytes"] else (None, text_of(value["path"]))
    if isinstance(value, bytes):
        return (None, value.decode()) if _is_path(value) else (value, "")
    return None, text_of(value)


def _is_path(value: bytes) -> bool:
    """Whether bytes are text: older programs write text as bytes, and an image is none."""
    try:
        return len(value) <= LONGEST_PATH and bool(value.decode() or True)
    except UnicodeDecodeError:
        return False
