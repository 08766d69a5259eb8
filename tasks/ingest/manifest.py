"""The manifest: one row per image, as a table for the stages and as a text for the version.

The text's bytes are part of the version's name, so nothing in them may depend on a library's version, as those of a
Parquet file do (its writer's name, encodings, statistics). It is written here, cell by cell, and holds what a person
or a source said and what the files' headers say, not what a decoder made of their pixels.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as parquet

MANIFEST = "manifest.csv"
"""Name of the manifest in ``data/``."""
TABLE = "manifest.parquet"
"""Name of the table; also of the manifest in versions that were made before 0.2."""
BATCH = 65_536
"""Rows that are held at once."""

COLUMNS = pa.schema([
    ("path", pa.string()), ("label", pa.string()), ("split", pa.string()), ("domain", pa.string()),
    ("group", pa.string()), ("hash", pa.string()), ("size", pa.int64()), ("width", pa.int32()),
    ("height", pa.int32()),
])  # fmt: skip
"""Of the text, in its order. Where an image may have several labels, the second is ``labels``, JSON lists."""


def write_manifest(rows: Iterable[tuple[Any, ...]], multi_label: bool, text: Path, table: Path) -> None:
    """Write the manifest in both forms.

    Args:
        rows: in the order of their paths; cells in the order of `COLUMNS`, then the perceptual hash, which only the
            table has. A label is text, with ``multi_label`` a JSON list or None.
    """
    schema = _schema(multi_label).append(pa.field("dhash", pa.int64()))
    rest = iter(rows)
    with text.open("w", encoding="utf-8", newline="") as file, parquet.ParquetWriter(table, schema) as writer:
        file.write(",".join(_head(multi_label)) + "\n")
        while block := list(islice(rest, BATCH)):
            file.writelines(",".join(map(_cell, row[:-1])) + "\n" for row in block)
            columns: list[Any] = list(map(list, zip(*block, strict=True)))
            if multi_label:
                columns[1] = [None if labels is None else json.loads(labels) for labels in columns[1]]
            writer.write_table(pa.table(columns, schema=schema))


def parse_manifest(content: bytes, name: str) -> pd.DataFrame:
    """A version's manifest, in the order of ``path``.

    Args:
        name: `MANIFEST`, or `TABLE` for the content of a Parquet file.

    Raises:
        ValueError: the content is not a manifest.
    """
    if name == TABLE:
        return pd.read_parquet(io.BytesIO(content))
    names = content[: content.find(b"\n")].decode(errors="replace").split(",")
    if names not in (_head(False), _head(True)):
        raise ValueError(f"its columns are {names}, not {_head(False)}")
    multi_label = names == _head(True)
    table = pa.csv.read_csv(
        pa.py_buffer(content),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict(zip(names, COLUMNS.types, strict=True)), include_columns=names, null_values=[""],
            strings_can_be_null=True, quoted_strings_can_be_null=False,
        ),
    )  # fmt: skip
    if multi_label:
        labels = [None if text is None else json.loads(text) for text in table["labels"].to_pylist()]
        table = table.set_column(1, _schema(True).field("label"), [labels])
    return table.to_pandas()


def _schema(multi_label: bool) -> pa.Schema:
    return COLUMNS.set(1, pa.field("label", pa.list_(pa.string()))) if multi_label else COLUMNS


def _head(multi_label: bool) -> list[str]:
    return ["labels" if multi_label and name == "label" else name for name in COLUMNS.names]


def _cell(value: str | int | None) -> str:
    """Text in quotes, so that a missing one is told from an empty one."""
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return "" if value is None else str(value)
