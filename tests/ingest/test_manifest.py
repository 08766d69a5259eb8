"""The manifest's bytes are those of its content, whatever libraries are installed."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ingest.manifest import MANIFEST, TABLE, parse_manifest, write_manifest
from tasks.target import one_task

ROWS = [
    ("a/1.png", "NA", "train", None, "", "0" * 32, 12, 8, 9, -(2**63)),
    ('a/"2",\n.png', "[1]", "test", "null", "7", "1" * 32, 2**40, 1, 1, None),
]


def written(folder: Path, rows: list[tuple[object, ...]], multi_label: bool = False) -> tuple[bytes, pd.DataFrame]:
    text, table = folder / MANIFEST, folder / TABLE
    write_manifest([(*row, None) for row in rows], one_task((), multi_label), text, table)
    return text.read_bytes(), parquet.read_table(table).to_pandas()


def test_every_byte_is_stated_and_none_is_a_library_s(tmp_path: Path) -> None:
    content, table = written(tmp_path, ROWS)
    assert content.decode() == (
        "path,label,split,domain,group,hash,size,width,height\n"
        f'"a/1.png","NA","train",,"","{"0" * 32}",12,8,9\n'
        f'"a/""2"",\n.png","[1]","test","null","7","{"1" * 32}",1099511627776,1,1\n'
    )
    assert table["dhash"].tolist()[0] == -(2**63)  # what depends on a decoder is in the table only


def test_text_that_looks_like_something_else_stays_text(tmp_path: Path) -> None:
    content, table = written(tmp_path, ROWS)
    read = parse_manifest(content, MANIFEST)
    assert read.equals(table.drop(columns="dhash"))
    assert read["label"].tolist() == ["NA", "[1]"]
    assert read["domain"].isna().tolist() == [True, False]
    assert read["group"].tolist() == ["", "7"]


def test_several_labels_are_lists_and_none_is_null(tmp_path: Path) -> None:
    rows = [(*ROWS[0][:1], labels, *ROWS[0][2:]) for labels in ('["x", "y,z"]', "[]", None)]
    content, table = written(tmp_path, rows, multi_label=True)
    read = parse_manifest(content, MANIFEST)
    assert [None if labels is None else list(labels) for labels in read["label"]] == [["x", "y,z"], [], None]
    assert read["label"].map(str).equals(table["label"].map(str))


def test_versions_of_before_have_a_parquet_file(tmp_path: Path) -> None:
    _, table = written(tmp_path, ROWS)
    file = io.BytesIO()
    table.to_parquet(file)
    assert parse_manifest(file.getvalue(), TABLE).equals(table)


def test_what_is_no_manifest_is_a_value_error() -> None:
    for content in (b"", b"a,b\n1,2\n", b'path,label\n"x'):
        with pytest.raises(ValueError, match=r"\w"):
            parse_manifest(content, MANIFEST)


cells = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6)


@given(st.lists(st.tuples(cells, st.none() | cells), min_size=1, max_size=5))
def test_every_text_comes_back(tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str | None]]) -> None:
    rows = [(path, label, *ROWS[0][2:]) for path, label in texts]
    content, _ = written(tmp_path_factory.mktemp("manifest"), rows)
    read = parse_manifest(content, MANIFEST)
    assert [
        (path, None if pd.isna(label) else label) for path, label in zip(read["path"], read["label"], strict=True)
    ] == texts
