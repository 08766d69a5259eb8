"""A configuration's file as editors of all kinds save it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.document import read_document
from tasks.errors import ConfigurationError

TEXT = "name: café\ningest:\n  source: {embedded: digits}\n"
VALUES = {"name": "café", "ingest": {"source": {"embedded": "digits"}}}


@pytest.mark.parametrize(
    "content",
    [
        *(TEXT.encode(encoding) for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")),
        TEXT.replace("\n", "\r\n").encode(), TEXT.replace("\n", "\r").encode(),
    ],
)  # fmt: skip
def test_any_encoding_that_its_bytes_tell_and_any_end_of_line_is_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    assert read_document(tmp_path / "c.yaml") == VALUES


def test_a_merged_section_may_override_what_it_takes_over(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: &a {x: 1, y: 1}\nb: {<<: *a, x: 2}\n")
    assert read_document(tmp_path / "c.yaml")["b"] == {"x": 2, "y": 1}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (TEXT.encode("latin-1"), "line 1 is not UTF-8: save the file as UTF-8"),
        (f"name: x\r\n# {'é'}\r\n".encode("latin-1"), "line 2 is not UTF-8"),
        (TEXT.encode("utf-16")[:-1], "line .* is not UTF-16"),
        (b"name: x\ningest:\n\tsource: {}\n", "line 3, column 1: a tab stands where YAML takes spaces only"),
        (b"name: x\ntrain: {}\nname: y\n", "line 3, column 1: the key 'name' stands twice, in line 1 and here"),
        (b"name: x\ningest:\n  split:\n    val: 0.1\n    val: 0.2\n", "line 5, .* 'val' stands twice, in line 4 and"),
        (b"", "is empty: it must hold keys and values, such as 'name: digits'"),
        (b"# name: x\n", "is empty"),
        (b"- name\n- ingest\n", "holds a list: it must hold keys and values"),
        (b"digits", "holds 'digits': it must hold keys and values"),
        (b"name: x\0", "is no valid YAML: unacceptable character"),
        (b"name: 2026-13-45", "is no valid YAML: month must be in"),
        (b"name: " + b"[" * 1000, "is no valid YAML"),
        (b"name: x\n---\nname: y\n", "line 2, column 1: but found another document"),
        (b"name: !!python/object:os.system x\n", "line 1, .*could not determine a constructor"),
        (b"name: 'x" + b"y" * 50_000, "is no valid YAML"),
    ],
)
def test_what_cannot_be_meant_is_one_line_that_names_the_line(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=told) as error:
        read_document(tmp_path / "c.yaml")
    message = str(error.value)
    assert message.startswith(str(tmp_path / "c.yaml")) and "\n" not in message and len(message) < 1600


def test_a_folder_or_nothing_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(ConfigurationError, match=r"cannot be read: .* Name a \.yaml file; configs/ has examples"):
            read_document(path)
