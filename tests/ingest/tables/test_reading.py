"""A table is opened by what it is: compressed, JSON, a workbook, or none of these."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import zstandard

from tasks.errors import ConfigurationError, DataError
from tasks.ingest.tables.columns import MissingColumns
from tests.ingest.tables.reading import cells, rows

PLAIN = b"path,label\n" + b"".join(b"a/%d.png,cat\n" % number for number in range(2000))
RECORDS = [{"path": "1.png", "label": "cat", "split": None}, {"path": "2.png", "label": 3.0}, {"path": "3.png"}]
TOLD = [("1.png", "cat", ""), ("2.png", "3", ""), ("3.png", "", "")]
LINES = "\n".join(map(json.dumps, RECORDS))

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.compress,
}  # fmt: skip


@pytest.mark.parametrize("name", COMPRESSORS)
def test_compressed_tables_are_read_and_told_of_where_they_are_cut_off(name: str, tmp_path: Path) -> None:
    packed = COMPRESSORS[name](PLAIN)
    assert cells(rows(tmp_path, packed)) == [(f"a/{number}.png", "cat") for number in range(2000)]
    assert cells(rows(tmp_path, COMPRESSORS[name](LINES.encode()))) == TOLD
    for end in (-1, -20, len(packed) // 2):
        with pytest.raises(DataError, match=r"cannot be read as a table: .*Is it whole\?"):
            rows(tmp_path, packed[:end])


@pytest.mark.parametrize(
    "text", [LINES, LINES + "\n", "\n" + LINES.replace("\n", "\r\n\r\n"), json.dumps(RECORDS),
             json.dumps(RECORDS, indent=2), f"\n {json.dumps(RECORDS)}"],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_is_read_in_lines_and_as_a_list(text: str, encoding: str, tmp_path: Path) -> None:
    assert cells(rows(tmp_path, text.encode(encoding))) == TOLD


def test_columns_that_the_first_object_lacks_are_read_from_those_that_have_them(tmp_path: Path) -> None:
    told = [{"path": "1.png"}, {"path": "2.png", "Label": "cat"}, {"label": "dog", "path": "3.png", "split": "val"}]
    for text in ("\n".join(map(json.dumps, told)), json.dumps(told)):
        found = [(row.cells["path"], row.cells["label"], row.cells.get("split", "")) for row in rows(tmp_path, text)]
        assert found == [("1.png", "", ""), ("2.png", "cat", ""), ("3.png", "dog", "val")]
    late = [{"path": "1.png", "label": "x"}] * 1500 + [{"path": "2.png", "label": "x", "group": "p"}]
    assert rows(tmp_path, "\n".join(map(json.dumps, late)))[-1].cells["group"] == "p"
    without = "\n".join([json.dumps({"path": "1.png"})] * 1500)
    with pytest.raises(ConfigurationError, match="has no column label; it has path"):
        rows(tmp_path, without)


def test_a_value_of_json_keeps_its_words_and_a_line_that_is_none_is_told_by_its_number(tmp_path: Path) -> None:
    labels = ["true", True, 7, 7.5, None, "NaN", "1.0", ["a"], {"a": 1}]
    lines = [json.dumps({"Path": "1.png", "label": label, "more": [{}]}) for label in labels]
    found = rows(tmp_path, "\n".join([*lines, "{", "[1]", '"x"']))
    assert [row.cells["label"] for row in found[:7]] == ["true", "True", "7", "7.5", "", "NaN", "1.0"]
    assert [(row.number, row.problem and row.problem.partition(";")[0]) for row in found[7:]] == [
        (8, "label holds a list where one value is expected"),
        (9, "label holds an object where a value is expected (pandas: to_json with orient='records')"),
        *((number, "is no JSON object with a key for each column") for number in (10, 11, 12)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '{"path;label": "1.png;cat"}',
            "has all columns in one cell .path;label.: save it again with each in a cell of",
        ),
        ("{\n", "no JSON that holds rows .*an object a line is expected, or a list of objects"),
        ("[" * 200_000, "no JSON that holds rows"),
        (
            '{"images": [], "annotations": []}',
            "is one object, with images, annotations: a list of objects, or one a line",
        ),
        ('{"path": "é", "label": "x"}'.encode("latin-1"), "is not utf-8 throughout.*name its encoding"),
    ],
)
def test_json_of_another_kind_is_told_of(text: str | bytes, told: str, tmp_path: Path) -> None:
    with pytest.raises((DataError, ConfigurationError), match=told):
        rows(tmp_path, text)


def zipped(*names: str) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (zipped("content.xml", "mimetype"), r"is an OpenDocument file \(.ods\): save the sheet as 'CSV UTF-8'"),
        (zipped("xl/workbook.bin"), r"is an Excel workbook of the binary kind \(.xlsb\): save"),
        (zipped("table.csv"), "is a ZIP archive: unpack it, and name the table in it"),
        (zipped("xl/workbook.xml")[:-30], "is a damaged Excel workbook or ZIP archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "is an Office document; a table is expected"),
        (b"SQLite format 3\0" + bytes(600), "is a database; a table is expected"),
    ],
    ids=["ods", "xlsb", "zip", "damaged", "office", "database"],
)
def test_files_of_other_programs_are_named(content: bytes, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told):
        rows(tmp_path, content)


def test_a_workbook_is_read_or_it_is_said_what_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(DataError, match=r"needs another package: pip install 'headstart\[excel\]', or save the sheet"):
        rows(tmp_path, zipped("xl/workbook.xml"))


def test_the_first_sheet_of_a_workbook_is_read_with_what_its_cells_say(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    labels = [1.0, None, "NA", True, 2.5, date(2026, 1, 2)]
    frame = pd.DataFrame({"n": range(6), "Path ": [f"{number}.png" for number in range(6)], "label": labels})
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        frame.to_excel(book, sheet_name="first", startrow=2, index=False)
        pd.DataFrame({"path": ["x"], "notes": ["y"]}).to_excel(book, sheet_name="second")
    content = (tmp_path / "t.xlsx").read_bytes()
    assert cells(rows(tmp_path, content)) == list(
        zip([f"{number}.png" for number in range(6)], ["1", "", "NA", "True", "2.5", "2026-01-02"], strict=True)
    )
    with pytest.raises(DataError, match="damaged Excel workbook"):
        rows(tmp_path, zipped("xl/workbook.xml"))


def test_sheets_that_hold_such_a_table_each_are_told_of_unless_they_are_hidden(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    frame = pd.DataFrame({"path": ["1.png"], "label": ["cat"]})
    for state in ("visible", "hidden"):
        with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
            frame.to_excel(book, sheet_name="train", index=False)
            frame.to_excel(book, sheet_name="test", index=False, startrow=3)
            book.sheets["test"].sheet_state = state
        content = (tmp_path / "t.xlsx").read_bytes()
        if state == "hidden":
            assert cells(rows(tmp_path, content)) == [("1.png", "cat")]
        else:
            with pytest.raises(DataError, match="the sheets train, test hold such a table each"):
                rows(tmp_path, content)


def test_all_rows_of_a_sheet_are_read_whatever_its_file_says_of_their_number(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    frame = pd.DataFrame({"path": [f"{number}.png" for number in range(6)], "label": ["a", "b"] * 3})
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    for said in (b'<dimension ref="A1:B2"', b'<dimension ref="A1"'):
        packed = io.BytesIO()
        with zipfile.ZipFile(tmp_path / "t.xlsx") as before, zipfile.ZipFile(packed, "w") as after:
            for name in before.namelist():
                after.writestr(name, re.sub(rb'<dimension ref="[^"]*"', said, before.read(name)))
        assert said in zipfile.ZipFile(packed).read("xl/worksheets/sheet1.xml")
        assert cells(rows(tmp_path, packed.getvalue())) == list(frame.itertuples(index=False, name=None))


def test_merged_cells_hold_for_all_their_rows_and_what_excel_could_not_compute_is_told(tmp_path: Path) -> None:
    book = pytest.importorskip("openpyxl").Workbook()
    sheet = book.active
    for number, row in enumerate([("Photos", None), ("path", "label"), *((f"{n}.png", f"c{n}") for n in range(9))], 1):
        for column, value in enumerate(row, 1):
            sheet.cell(number, column, value)
    sheet.merge_cells("A1:B1")
    sheet.merge_cells("B3:C5")
    sheet.merge_cells("B7:B8")
    sheet["B11"].value, sheet["B11"].data_type = "#N/A", "e"
    book.save(tmp_path / "t.xlsx")
    found = rows(tmp_path, (tmp_path / "t.xlsx").read_bytes())
    labels = ["c0", "c0", "c0", "c3", "c4", "c4", "c6", "c7"]
    assert cells(found[:-1]) == [(f"{n}.png", label) for n, label in enumerate(labels)]
    assert found[-1].problem == "column label holds #N/A, an error of Excel"


def test_formulas_that_nobody_has_computed_are_told(tmp_path: Path) -> None:
    book = pytest.importorskip("openpyxl").Workbook()
    for row in [("path", "label", "split"), ("a.png", "=CONCAT(A2)", None), ("b.png", "=CONCAT(A3)", None)]:
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(
        DataError, match="row 2: column label holds a formula whose value no program has computed: open"
    ):
        rows(tmp_path, (tmp_path / "t.xlsx").read_bytes())
    for row, label in ((2, "cat"), (3, None)):
        book.active[f"B{row}"] = label
    book.active.append(("c.png", "=B2", None))
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(DataError, match="row 4: column label holds a formula"):
        rows(tmp_path, (tmp_path / "t.xlsx").read_bytes())


def test_a_table_behind_the_first_sheet_is_not_read_and_told(tmp_path: Path) -> None:
    book = pytest.importorskip("openpyxl").Workbook()
    book.active.append(["Read me"])
    images = book.create_sheet("images")
    for row in [("path", "label"), ("a.png", "cat")]:
        images.append(row)
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(MissingColumns, match="only the first sheet is read, and there are images: put the table first"):
        rows(tmp_path, (tmp_path / "t.xlsx").read_bytes())


def test_arrow_is_what_reads_parquet_so_its_files_are_named_where_they_are_compressed_once_more(tmp_path: Path) -> None:
    pd.DataFrame({"path": ["a"], "label": ["b"]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="is a Parquet table"):
        rows(tmp_path, gzip.compress((tmp_path / "t.parquet").read_bytes()))
    with pa.ipc.new_file(tmp_path / "t.arrow", pa.schema([("path", pa.string())])):
        pass
    with pytest.raises(DataError, match="is no text; a table is expected"):
        rows(tmp_path, (tmp_path / "t.arrow").read_bytes())
