"""Parquet: types become the words that a CSV of the same table would hold; images lie in it or beside it."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tasks.errors import ConfigurationError
from tasks.ingest.tables.columns import MissingColumns
from tests.ingest.pictures import png
from tests.ingest.tables.reading import WANTED, cells, rows


def packed(columns: dict[str, Any], notes: dict[str, Any] | None = None) -> bytes:
    table = pa.table(columns)
    if notes is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": notes}})})
    parquet.write_table(table, buffer := io.BytesIO())
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (pa.array([0.0, 12.0, None, float("nan"), 1.5, float("inf")]), ["0", "12", "", "", "1.5", "inf"]),
        (pd.array([0, 12, None], "Int64"), ["0", "12", ""]),
        (pd.array([True, None, False], "boolean"), ["True", "", "False"]),
        (pd.Categorical(["cat", None, "dog"]), ["cat", "", "dog"]),
        (pa.array(["nan", "NA", "None", "null", "true", "1.0"]), ["nan", "NA", "None", "null", "true", "1.0"]),
        (pa.array([b"cat", b"chati\xc3\xa8re"]), ["cat", "chatière"]),
        (pa.array(["a", "b"], pa.large_string()).dictionary_encode(), ["a", "b"]),
        (pd.to_datetime(["2026-01-02 00:00", "2026-01-02 03:04", None]), ["2026-01-02", "2026-01-02 03:04:00", ""]),
        (pa.array([Decimal(1), Decimal(20)], pa.decimal128(38, 0)), ["1", "20"]),
        (np.array([1, 255], np.uint8), ["1", "255"]),
        (pa.array([2.0, 3.0], pa.float32()), ["2", "3"]),
    ],
)  # fmt: skip
def test_a_value_is_the_word_that_it_would_be_in_a_csv(values: Any, told: list[str], tmp_path: Path) -> None:
    found = rows(tmp_path, packed({"path": ["x"] * len(values), "label": values}))
    assert [row.cells["label"] for row in found] == told


@pytest.mark.parametrize("column", ["image", "picture"])
@pytest.mark.parametrize("image", ["path", "picture"])
def test_images_of_the_hub_are_read_with_the_names_of_their_classes(column: str, image: str, tmp_path: Path) -> None:
    images = [{"bytes": png(str(number)), "path": "same.png"} for number in range(4)]
    notes = {"label": {"_type": "ClassLabel", "names": ["ant", "bee"]}, column: {"_type": "Image"}}
    found = rows(tmp_path, packed({column: images, "label": [1, 0, -1, None]}, notes), WANTED._replace(image=image))
    assert [(row.image, row.cells["label"]) for row in found] == [
        (each["bytes"], name) for each, name in zip(images, ["bee", "ant", "", ""], strict=True)
    ]


def test_where_several_columns_hold_images_one_is_to_be_named(tmp_path: Path) -> None:
    images = [{"bytes": png("1"), "path": ""}]
    content = packed({"before": images, "after": images, "label": ["x"]})
    with pytest.raises(MissingColumns, match="has no column path; it has before, after, label"):
        rows(tmp_path, content)
    assert rows(tmp_path, content, WANTED._replace(image="after"))[0].image == png("1")


def test_a_class_that_has_no_name_is_a_bad_row(tmp_path: Path) -> None:
    found = rows(
        tmp_path, packed({"path": ["a"] * 2, "label": [0, 7]}, {"label": {"_type": "ClassLabel", "names": ["x"]}})
    )
    assert [row.problem for row in found] == [None, "column label holds 7, where there are 1 classes"]


def test_words_stay_words_where_notes_name_classes(tmp_path: Path) -> None:
    notes = {"label": {"_type": "ClassLabel", "names": ["x", "y"]}}
    assert cells(rows(tmp_path, packed({"path": ["a"] * 2, "label": ["y", None]}, notes))) == [("a", "y"), ("a", "")]


def test_a_column_of_bytes_holds_images_or_paths(tmp_path: Path) -> None:
    values = [png("1"), b"a/\xc3\xbc.png", None, b""]
    found = rows(tmp_path, packed({"path": values, "label": list("abcd")}))
    assert [(row.image, row.cells["path"]) for row in found] == [
        (png("1"), ""),
        (None, "a/ü.png"),
        (None, ""),
        (None, ""),
    ]
    beside = [{"bytes": None, "path": "a.png"}, {"bytes": png("1"), "path": None}, None]
    found = rows(tmp_path, packed({"image": beside, "label": list("abc")}))
    assert [(row.image, row.cells["path"]) for row in found] == [(None, "a.png"), (png("1"), ""), (None, "")]


@pytest.mark.parametrize("values", [[["a"], ["b"]], [{"bytes": b"\xff", "path": "x"}] * 2, [{"x": 1}] * 2])
def test_a_label_of_several_values_is_told_by_its_type_and_not_by_its_content(
    values: list[Any], tmp_path: Path
) -> None:
    told = r"column label holds (list<.*\{column: label, kind: labels\}\}|struct<.*where one value a row is expected)$"
    with pytest.raises(ConfigurationError, match=told):
        rows(tmp_path, packed({"path": ["x", "y"], "label": values}))
    found = rows(tmp_path, packed({"path": ["x"], "label": [png("1") * 500]}))
    assert found[0].problem == f"column label holds {len(png('1')) * 500:,} bytes that are no text"


def test_lists_are_read_where_they_may_be_and_have_the_names_of_their_classes(tmp_path: Path) -> None:
    wanted = WANTED._replace(lists=frozenset(["label"]))
    columns = {"path": list("abc"), "label": [["x", " y ", None], [], None]}
    assert cells(rows(tmp_path, packed(columns), wanted)) == [("a", '["x", "y", ""]'), ("b", "[]"), ("c", "")]
    named = {"label": {"feature": {"names": ["ant", "bee"], "_type": "ClassLabel"}, "_type": "List"}}
    counted = packed({"path": ["a", "b"], "label": [[1, 0], [2]]}, named)
    first, second = rows(tmp_path, counted, wanted)
    assert first.cells["label"] == '["bee", "ant"]'
    assert second.problem == "column label holds 2, where there are 2 classes"


def test_images_as_lists_of_pixels_are_told_of(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"column path holds list<.*>, where a path, or an image"):
        rows(tmp_path, packed({"path": [[0, 255]], "label": ["a"]}))


def test_a_file_of_many_images_is_read_a_few_at_a_time(tmp_path: Path) -> None:
    content = packed({"image": [{"bytes": bytes([255]) + bytes(200_000), "path": ""}] * 300, "label": ["a"] * 300})
    (tmp_path / "once").write_bytes(content)
    before = pa.total_allocated_bytes()
    most = 0
    for row in iter_rows(tmp_path / "once"):
        most = max(most, pa.total_allocated_bytes() - before)
        assert row.image is not None
    assert 0 < most < 30 * 2**20 < 300 * 200_000


def iter_rows(table: Path) -> Any:
    from tasks.ingest.tables.reading import read_rows

    return read_rows(table, WANTED)


def test_nothing_but_what_is_wanted_is_read(tmp_path: Path) -> None:
    found = rows(
        tmp_path, packed({"blob": [b"\xff" * 9], "Label": ["a"], "list": [[1]], "path": ["x"], "GROUP": [7.0]})
    )
    assert cells(found) == [("x", "a", "7")]
