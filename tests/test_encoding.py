"""Which encoding a file's first bytes show, and rows that every reader takes apart."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest

from tasks.encoding import encoding_of, write_rows


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_what_the_bytes_show_decodes_them(encoding: str) -> None:
    text = "path,label\na/1.png,chatière\n"
    content = text.encode(encoding)
    assert content.decode(encoding_of(content)) == text


@pytest.mark.parametrize(
    "content", [b"", b"path,label\n", "é".encode(), "é".encode("latin-1"), b"a\0b,c\n" * 9, bytes(100), b"a\0\0\0" * 9]
)
def test_all_else_is_left_to_others(content: bytes) -> None:
    assert encoding_of(content) is None


def test_rows_with_ends_of_lines_in_them_come_back_by_whoever_reads_them() -> None:
    rows = [["path", "label", "n"], ["a\rb.png", "cat\r", "1"], ["a,\n.png", 'a "cat"', "2"], ["c.png", "cat", "3"]]
    file = io.StringIO(newline="")
    write_rows(file, rows)
    assert list(csv.reader(io.StringIO(file.getvalue(), newline=""))) == rows
    assert pd.read_csv(io.StringIO(file.getvalue(), newline=""), dtype=str).to_numpy().tolist() == rows[1:]
    assert file.getvalue().endswith("\nc.png,cat,3\n")  # what needs no quotes has none
