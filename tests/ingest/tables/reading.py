"""A table of a few bytes, read."""

from __future__ import annotations

from pathlib import Path

from tasks.ingest.tables.columns import Row, Wanted
from tasks.ingest.tables.reading import read_rows

WANTED = Wanted("path", ["label"], ["split", "group"])


def rows(folder: Path, content: bytes | str, wanted: Wanted = WANTED, encoding: str | None = None) -> list[Row]:
    """All rows of a table of this content; what it is, its bytes say."""
    table = folder / "table"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_rows(table, wanted, encoding))


def cells(found: list[Row]) -> list[tuple[str, ...]]:
    """What rows say, without the names of their columns."""
    return [tuple(row.cells.values()) for row in found]
