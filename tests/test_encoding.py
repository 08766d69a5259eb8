"""Which encoding a file's first bytes show."""

from __future__ import annotations

import pytest

from tasks.encoding import encoding_of


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
