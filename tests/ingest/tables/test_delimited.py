"""CSV as spreadsheets, databases and scripts of all countries write it: one content in many dialects."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from tasks.errors import ConfigurationError, DataError
from tasks.ingest.tables.columns import MissingColumns, Wanted
from tasks.ingest.tables.reading import read_rows
from tests.ingest.tables.reading import WANTED, cells, rows

PLAIN = "path,label\na/1.png,cat\na/2.png,chatière\n"
TOLD = [("a/1.png", "cat"), ("a/2.png", "chatière")]
SEMICOLONS = PLAIN.replace(",", ";")

DIALECTS: dict[str, str | bytes] = {
    "plain": PLAIN,
    "no end of line at the end": PLAIN.rstrip(),
    "byte order mark": PLAIN.encode("utf-8-sig"),
    "two byte order marks": "\ufeff\ufeff" + PLAIN,
    "lines end as on Windows": PLAIN.replace("\n", "\r\n"),
    "lines end as on old Macs": PLAIN.replace("\n", "\r"),
    "semicolons": SEMICOLONS,
    "pipes": PLAIN.replace(",", "|"),
    "tabs": PLAIN.replace(",", "\t"),
    "Excel's line": "sep=;\r\n" + SEMICOLONS,
    "Excel's line, any sign": '"sep=^"\n' + PLAIN.replace(",", "^"),
    "Windows' Unicode": PLAIN.replace(",", "\t").encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "UTF-16 without its mark": PLAIN.encode("utf-16-le"),
    "UTF-32": PLAIN.encode("utf-32"),
    "empty lines above": "\n\n" + PLAIN,
    "empty lines between": PLAIN.replace("\n", "\n\n"),
    "rows of nothing": PLAIN.replace("\n", "\n,\n"),
    "comments": "# exported on Thursday\n# by me, with ; and |\n" + PLAIN,
    "a head that is a comment": "# " + PLAIN,
    "a title": "Photos of animals;;\n;;\n" + SEMICOLONS,
    "spaces": " path , label \n a/1.png , cat \na/2.png,chatière ",
    "spaces around quotes": '"path" , "label"\n"a/1.png" , "cat" \n"a/2.png" , "chatière"\n',
    "quotes": '"path","label"\n"a/1.png","cat"\n"a/2.png","chatière"\n',
    "names in another case": PLAIN.replace("path,label", "Path,LABEL"),
    "delimiters in the head": 'path;label;"note, a, b, c"\na/1.png;cat;x\na/2.png;chatière;\n',
    "an end of line in the head": 'path,label,"a\nnote"\na/1.png,cat,x\na/2.png,chatière,y\n',
    "an end of line in a cell": 'path,note,label\na/1.png,"one\n\ntwo, ""2""",cat\na/2.png,"x\r\n",chatière\n',
    "a comma too many": "path,label\na/1.png,cat,\na/2.png,chatière, ,\n",
    "pandas' index": ",path,label\n0,a/1.png,cat\n1,a/2.png,chatière\n",
    "pandas' index and tabs": "\tpath\tlabel\n0\ta/1.png\tcat\n1\ta/2.png\tchatière\n",
    "pandas' index, tabs, an empty column": "\tpath\tlabel\tx\n0\ta/1.png\tcat\t\n1\ta/2.png\tchatière\t\n",
    "a column of numbers and tabs": "#\tpath\tlabel\n0\ta/1.png\tcat\n1\ta/2.png\tchatière\n",
    "quotes, tabs, an empty column": 'path\tlabel\tx\n"a/1.png" \t"cat"\t\na/2.png\tchatière\t\n',
    "lines that are one quoted cell": "".join(f'"{line}"\n' for line in PLAIN.splitlines()),
    "such lines, Windows' ends": "".join(f'"{line}"\r\n' for line in PLAIN.splitlines()),
    "such lines, empty cells behind": "".join(f'"{line}";;\n' for line in PLAIN.splitlines()),
    "such lines of semicolons": "\n\n" + "".join(f'"{line}"\n' for line in SEMICOLONS.splitlines()),
    "such lines with quotes": '"path,""label"""\n"a/1.png,""cat"""\n"a/2.png,""chatière"""',
    "some such lines": '"path,label"\na/1.png,cat\n"a/2.png,chatière"\n',
    "signs nobody sees in the head": "\u200bpath,la\u00adbel\u200e\na/1.png,cat\na/2.png,chatière\n",
    "two byte order marks, quotes": '\ufeff\ufeff"path","label"\na/1.png,cat\na/2.png,chatière\n',
    "another column in Latin-1": PLAIN.replace("\n", ",x\n").encode() + b"a/2.png,cat,\xe9",
}


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_says_the_same(name: str, tmp_path: Path) -> None:
    found = rows(tmp_path, DIALECTS[name])
    assert cells(found)[:2] == TOLD and not any(row.problem for row in found)


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty: a head such as path,label is expected"),
    "empty lines": ("\n\r\n  \n", "is empty"),
    "no head": (PLAIN.partition("\n")[2], "has no column path, label; it has a/1.png, cat.* write the line path,label"),
    "other columns": ("file,class\nx,y\n", "has no column path, label; it has file, class. Name its columns in ingest"),
    "cells parted by spaces": ("a/1.png cat\na/2.png dog\n", "row is one cell .a/1.png cat.. Cells are parted by a"),
    "the same column twice": ("path,label,Label,label\n", r"several columns label \(label, label\): rename all but"),
    "Latin-1": (PLAIN.encode("latin-1"), "line 3 is not UTF-8. Save .* windows-1252 the cell reads 'chatière'"),
    "Latin-1 in the head": ("path,espèce\n".encode("latin-1"), "line 1 is not UTF-8.* reads 'espèce'"),
    "a quote that is not closed": (PLAIN + '"a/3.png,cat\na/4.png,cat\n', r"line 4 opens a quote \(\"\) that is not"),
    "a quote that the next one closes": ('path,label\n"a/1.png,cat\na/2.png,dog\n"a/3.png","cat"\n', "line 2 opens a"),
    "half a sign of UTF-16": (PLAIN.encode("utf-16")[:-1], "is not utf-16-le throughout"),
    "an image": (b"\x89PNG\r\n\x1a\n\0\0", r"is an image \(png\); a table is expected: CSV"),
    "a web page": ("<!doctype html><html>", "is a web page"),
    "a pointer": ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer.*git lfs pull"),
    "other bytes": (b"\x01\0\x02\xff\x80path,label\n", "is no text; a table is expected"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_is_told_in_one_line_with_what_to_do(name: str, tmp_path: Path) -> None:
    content, told = REFUSED[name]
    with pytest.raises((DataError, ConfigurationError), match=told) as error:
        rows(tmp_path, content)
    assert "\n" not in str(error.value) and str(tmp_path / "table") in str(error.value)


def test_a_table_in_another_encoding_is_read_as_its_configuration_says(tmp_path: Path) -> None:
    for encoding in ("latin-1", "windows-1252", "mac_roman"):
        assert cells(rows(tmp_path, PLAIN.encode(encoding), encoding=encoding)) == TOLD
    assert cells(rows(tmp_path, PLAIN.encode("utf-16"), encoding="latin-1")) == TOLD  # the file's own word counts
    with pytest.raises(DataError, match=r"is not shift_jis throughout.*ingest.source.encoding"):
        rows(tmp_path, b"path,label\na.png,\xff\xff\n", encoding="shift_jis")
    with pytest.raises(DataError, match=r"is not in the encoding named .*without a byte order mark.*utf-16-le"):
        rows(tmp_path, PLAIN, encoding="utf-16")


def test_words_stay_as_they_are_and_integers_that_pandas_made_floats_are_integers(tmp_path: Path) -> None:
    words = ["nan", "NA", "None", "null", "NULL", "true", "0.0", "12.0", "-1.0", "1.50", "01.0", "1.0.0", "v1.0", ""]
    found = rows(tmp_path, "path,label\n" + "".join(f"7.0,{word}\n" for word in words))
    assert [row.cells["label"] for row in found] == [*words[:6], "0", "12", "-1", *words[9:]]
    assert {row.cells["path"] for row in found} == {"7.0"}


def test_a_line_that_is_one_quoted_cell_keeps_its_commas_and_its_number(tmp_path: Path) -> None:
    told = '"path,label"\n"a/1.png,""cat, wild"""\n"a/2.png"\n"a/3.png,dog"\n'
    found = rows(tmp_path, told)
    assert cells(found) == [("a/1.png", "cat, wild"), (), ("a/3.png", "dog")]
    assert [(row.number, row.problem) for row in found if row.problem] == [(2, "1 cells where 2 are expected")]
    with pytest.raises(DataError, match="line 3 opens a quote"):
        rows(tmp_path, '"path,label"\n"a/1.png,cat"\n"a/2.png,cat\n"a/3.png,cat"\n')
    assert cells(rows(tmp_path, 'path,label\n"a,1.png",cat\n')) == [("a,1.png", "cat")]


def test_names_of_columns_may_be_in_another_form_of_unicode(tmp_path: Path) -> None:
    found = rows(tmp_path, "path,espe\u0300ce\na.png,cat\n", Wanted("path", ["esp\u00e8ce"], []))
    assert cells(found) == [("a.png", "cat")]


def test_names_that_fit_exactly_come_before_those_in_another_case(tmp_path: Path) -> None:
    assert cells(rows(tmp_path, "Path,label,path,LABEL\n1,2,3,4\n")) == [("3", "2")]
    with pytest.raises(ConfigurationError, match=r"several columns path \(Path, PATH\)"):
        rows(tmp_path, "Path,label,PATH\n1,2,3\n")


def test_a_row_with_quotes_where_they_may_not_be_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    found = rows(tmp_path, 'path,label\n1.png,"a "b" c"\n2.png,5" nail\n3.png,"say ""x"""\n4.png,"cat" x\n5.png,dog\n')
    assert cells(found) == [(), ("2.png", '5" nail'), ("3.png", 'say "x"'), (), ("5.png", "dog")]
    assert [(row.number, "is written twice" in row.problem) for row in found if row.problem] == [(1, True), (4, True)]


def test_memory_does_not_grow_with_rows_nor_with_a_line_that_never_ends(tmp_path: Path) -> None:
    table = tmp_path / "table"
    with table.open("w") as opened:
        opened.write("path,label,note\n")
        opened.writelines(f"a/{number}.png,c{number % 10},{'x' * 4000}\n" for number in range(5_000))
    tracemalloc.start()
    assert sum(1 for _ in read_rows(table, WANTED)) == 5_000
    assert tracemalloc.get_traced_memory()[1] < 2**20 < table.stat().st_size / 10
    tracemalloc.stop()
    with pytest.raises(DataError, match="line 2 opens a quote"):
        rows(tmp_path, b'path,label\n"' + b"x" * 2**25)


def test_an_image_written_into_a_column_that_nobody_wants_is_passed_over(tmp_path: Path) -> None:
    assert cells(rows(tmp_path, f"path,base64,label\na.png,{'A' * 2_000_000},cat\n")) == [("a.png", "cat")]


def test_a_missing_column_names_the_first_of_many(tmp_path: Path) -> None:
    with pytest.raises(MissingColumns, match=r"it has c0, c1, .*, c11 and 9,988 more") as told:
        rows(tmp_path, ",".join(f"c{number}" for number in range(10_000)) + "\n")
    assert len(str(told.value)) < 600
