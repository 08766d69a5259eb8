"""Rows of a dataset in the making without files behind them: what relations and splits are tried on."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tasks.ingest.classes import check_learnable
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import _settle
from tasks.ingest.examine import Examined
from tasks.ingest.journal import Journal
from tasks.limits import Limits
from tasks.records import Split
from tasks.target import one_task


class Row(NamedTuple):
    """An image that a source holds. Images of one ``content`` are copies of each other."""

    path: str
    label: str | None
    content: str
    split: str | None = None
    group: str | None = None
    dhash: int | None = None
    domain: str | None = None
    further: str | None = None


class Placed(NamedTuple):
    """What became of an image; ``kind`` and ``reason`` where it is kept out."""

    path: str
    label: str | None
    hash: str
    split: str | None
    group: str | None
    kind: str | None
    reason: str | None


class Noted(NamedTuple):
    """A finding whose policy is to take the image in and say so."""

    kind: str
    path: str
    reason: str


@dataclass
class Settled:
    """All rows in the order of their paths, what was noted of them (but for their names, which are no files'), and the
    splits that matter."""

    rows: list[Placed]
    noted: list[Noted]
    choose_on: Split
    report_on: Split
    classes: tuple[str, ...]

    @property
    def used(self) -> list[Placed]:
        """Images that are in the dataset."""
        return [row for row in self.rows if row.kind is None]

    @property
    def kept_out(self) -> dict[str, str]:
        """Kind by path of the others."""
        return {row.path: row.kind for row in self.rows if row.kind is not None}

    def splits(self, by: str = "path") -> dict[str, str | None]:
        """Split by path, hash or group of the images that are in the dataset.

        Raises:
            AssertionError: one hash or group is in two splits.
        """
        found: dict[str, str | None] = {}
        for row in self.used:
            name = getattr(row, by)
            if name is not None:
                assert found.setdefault(name, row.split) == row.split, f"{name} is in two splits"
        return found

    def count(self, split: str, label: str | None = None) -> int:
        """Images of a split, and of a class."""
        return sum(row.split == split and label in (None, row.label) for row in self.used)


def md5(content: str) -> str:
    """The hash of an image's content."""
    return hashlib.md5(content.encode()).hexdigest()


def images(count: int, first: int = 0, classes: Sequence[str] = "ab", **said: Any) -> list[Row]:
    """Images of contents of their own, classes taking turns."""
    numbers = range(first, first + count)
    return [Row(f"{number:05d}", classes[number % len(classes)], f"content {number}", **said) for number in numbers]


@contextmanager
def journal_of(rows: Sequence[Row]) -> Iterator[Journal]:
    """A journal as it is once all files of a source have been examined."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        with Journal.open(scratch / "ingest.db", scratch, Limits(10**8, 10**8)) as journal:
            journal.learn(
                (None, None, Examined(md5(row.content), 99, 64, 48, "PNG", "RGB", row.dhash, ",,")) for row in rows
            )
            journal.add(
                [
                    (row.path, None, row.domain, row.label, row.split, row.group, md5(row.content), None, None,
                     row.further)
                    for row in rows
                ]
            )  # fmt: skip
            yield journal


def settled(
    rows: Sequence[Row], checks: Mapping[str, Any] | None = None, learnable: bool = False, **split: Any
) -> Settled:
    """Settle relations and splits as an ingestion does.

    Args:
        checks, split: of the section ``ingest``.
        learnable: whether every class and split must have what learning needs.
    """
    config = IngestConfig.model_validate({"checks": checks or {}, "split": split})
    with journal_of(rows) as journal:
        choose_on, report_on, given = _settle(journal, config)
        needed: tuple[Split, ...] = ("train", choose_on, report_on)
        classes = check_learnable(journal, needed, one_task(()), given=given)[0].classes if learnable else ()
        found = journal.sql.execute(
            'SELECT path, label, hash, split, "group", kind, reason FROM rows ORDER BY path, id'
        ).fetchall()
        noted = journal.sql.execute(
            "SELECT noted.kind, path, noted.reason FROM noted JOIN rows USING (id) "
            "WHERE noted.kind <> 'wrong_extension' ORDER BY 1, 2"
        ).fetchall()
    return Settled([Placed(*row) for row in found], [Noted(*row) for row in noted], choose_on, report_on, classes)
