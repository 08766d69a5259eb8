"""The manifest: one row per image, as a table for the stages and as a text for the version.

The text's bytes are part of the version's name, so nothing in them may depend on a library's version, as those of a
Parquet file do (its writer's name, encodings, statistics). It is written here, cell by cell, and holds what a person
or a source said and what the files' headers say, not what a decoder made of their pixels.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as parquet

from tasks.ingest.tables.cells import number_text
from tasks.ingest.told import label_of
from tasks.target import LABEL, Kind, Target, one_task

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
"""Of the text, in its order. The second is ``labels`` (JSON lists) where an image may have several, ``number`` where
its label is one; where tasks have names, ``label:NAME`` and so on, and further ones stand behind, called likewise."""

HEADS: dict[Kind, str] = {"class": "label", "labels": "labels", "number": "number"}
TYPES: dict[Kind, pa.DataType] = {"class": pa.string(), "labels": pa.list_(pa.string()), "number": pa.float64()}
NAMED = re.compile(r"(label|labels|number)(?::([A-Za-z][A-Za-z0-9_]*))?")


def write_manifest(rows: Iterable[tuple[Any, ...]], targets: Sequence[Target], text: Path, table: Path) -> None:
    """Write the manifest in both forms.

    Args:
        rows: in the order of their paths; cells in the order of `COLUMNS`, then the perceptual hash, which only the
            table has, and labels of further tasks. Labels as the journal has them; see `tasks.ingest.told`.
    """
    leading, *others = targets
    schema = _schema(targets).append(pa.field("dhash", pa.int64()))
    rest = iter(rows)
    with text.open("w", encoding="utf-8", newline="") as file, parquet.ParquetWriter(table, schema) as writer:
        file.write(",".join(_head(targets)) + "\n")
        while block := list(islice(rest, BATCH)):
            columns: list[Any] = list(map(list, zip(*block, strict=True)))
            further = [{} if said is None else json.loads(said) for said in columns.pop()]
            labels = [[said.get(target.name) for said in further] for target in others]
            dhashes = columns.pop()
            columns[1] = [label_of(cell, leading) for cell in columns[1]]
            columns += labels
            file.writelines(",".join(map(_cell, row)) + "\n" for row in zip(*columns, strict=True))
            writer.write_table(pa.table([*columns, dhashes], schema=schema))


def parse_manifest(content: bytes, name: str) -> pd.DataFrame:
    """A version's manifest, in the order of ``path``.

    Args:
        name: `MANIFEST`, or `TABLE` for the content of a Parquet file.

    Raises:
        ValueError: the content is not a manifest.
    """
    if name == TABLE:
        return pd.read_parquet(io.BytesIO(content))
    targets = parse_targets(content, name)
    names, schema = _head(targets), _schema(targets)
    several = [target.kind == "labels" for target in targets]
    types = [pa.string() if pa.types.is_list(kind) else kind for kind in schema.types]
    table = pa.csv.read_csv(
        pa.py_buffer(content),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict(zip(names, types, strict=True)), include_columns=names, null_values=[""],
            strings_can_be_null=True, quoted_strings_can_be_null=False,
        ),
    )  # fmt: skip
    places = [1, *range(len(COLUMNS), len(names))]
    for place in (place for place, lists in zip(places, several, strict=True) if lists):
        labels = [None if text is None else json.loads(text) for text in table[place].to_pylist()]
        table = table.set_column(place, schema.field(place), [pa.array(labels, schema.types[place])])
    return table.rename_columns(schema.names).to_pandas()


def parse_targets(content: bytes, name: str) -> tuple[Target, ...]:
    """The tasks of a version's manifest, without their classes and units.

    Raises:
        ValueError: the content is not a manifest.
    """
    if name == TABLE:
        label = parquet.read_schema(io.BytesIO(content)).field("label").type
        return one_task((), pa.types.is_list(label))
    names = content[: content.find(b"\n")].decode(errors="replace").split(",")
    found = [NAMED.fullmatch(name) for name in (*names[1:2], *names[len(COLUMNS) :])]
    kinds = {head: kind for kind, head in HEADS.items()}
    targets = tuple(
        Target(name=match[2] or LABEL, column=f"{LABEL}:{match[2]}" if place else LABEL, kind=kinds[match[1]])
        for place, match in enumerate(found)
        if match and (match[2] or not place)
    )
    if len(targets) != len(found) or not targets or names != _head(targets):
        raise ValueError(f"its columns are {names}, not {_head(one_task(()))}")
    return targets


def _schema(targets: Sequence[Target]) -> pa.Schema:
    leading, *others = [pa.field(target.column, TYPES[target.kind]) for target in targets]
    return pa.schema([*COLUMNS.set(1, leading), *others])


def _head(targets: Sequence[Target]) -> list[str]:
    first, *others = [HEADS[each.kind] + (f":{each.name}" if each.name != LABEL else "") for each in targets]
    return [first if name == LABEL else name for name in COLUMNS.names] + others


def _cell(value: str | int | float | list[str] | None) -> str:
    """Text in quotes, so that a missing one is told from an empty one."""
    if isinstance(value, list):
        value = json.dumps(value)
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    if isinstance(value, float):
        return number_text(value)
    return "" if value is None else str(value)
