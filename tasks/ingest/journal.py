"""What an ingestion knows, in SQLite files, so that memory does not grow with the dataset and a killed run goes on.

``contents`` and ``seen`` outlive the run: what is known of a content, and which content a file of a certain size and
time had. ``rows`` is the dataset in the making, one row per thing that the source holds; it lies in a file of the run.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tasks.fingerprint import file_digest, fingerprint
from tasks.ingest import decode, examine
from tasks.ingest.examine import Examined, Limits

SCHEMA = """
CREATE TABLE IF NOT EXISTS known (rule TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS contents (
    hash TEXT PRIMARY KEY, size INTEGER, width INTEGER, height INTEGER, format TEXT, mode TEXT, dhash INTEGER,
    odd TEXT, kind TEXT, reason TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (place TEXT PRIMARY KEY, stamp TEXT, hash TEXT) WITHOUT ROWID;
CREATE TABLE work.rows (
    id INTEGER PRIMARY KEY, path TEXT, layout TEXT, domain TEXT, label TEXT, split TEXT, "group" TEXT, hash TEXT,
    kind TEXT, reason TEXT
);
CREATE TABLE work.noted (kind TEXT, id INTEGER, reason TEXT);
CREATE TABLE work.near (first INTEGER, second INTEGER, bits INTEGER);
CREATE INDEX work.by_hash ON rows (hash);
"""

USED = "rows.kind IS NULL"
"""SQL condition of the rows that are in the dataset so far."""


class Journal:
    """The tables of an ingestion. Queries are SQL; `tasks.ingest.relations` and `splits` work on ``rows``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.sql = connection

    @classmethod
    @contextmanager
    def open(cls, file: Path, scratch: Path, limits: Limits) -> Iterator[Journal]:
        """Open the journal of a workspace, with fresh ``rows`` in ``scratch``.

        A journal that a disk fault or another program has damaged is begun anew: it is only a cache.
        """
        try:
            connection = _connected(file, scratch, limits)
        except sqlite3.DatabaseError:
            for left in file.parent.glob(f"{file.name}*"):
                left.unlink()
            (scratch / "rows.db").unlink(missing_ok=True)
            connection = _connected(file, scratch, limits)
        with closing(connection):
            yield cls(connection)

    def known_files(self, places: Sequence[str]) -> dict[str, tuple[str, Examined]]:
        """By place: the stamp that a file had when it was seen, and what is known of the content it had then."""
        rows = self.sql.execute(
            f"SELECT place, stamp, contents.* FROM seen JOIN contents USING (hash) WHERE place IN {_marks(places)}",
            places,
        )
        return {place: (stamp, Examined(*known)) for place, stamp, *known in rows}

    def known_contents(self, digests: Sequence[str]) -> dict[str, Examined]:
        """By MD5: what is known of contents."""
        rows = self.sql.execute(f"SELECT * FROM contents WHERE hash IN {_marks(digests)}", digests)
        return {known[0]: Examined(*known) for known in rows}

    def learn(self, learnt: Iterable[tuple[str | None, str | None, Examined]]) -> None:
        """Remember what is known of contents, and which file had them: (place, stamp, examined)."""
        told = [entry for entry in learnt if entry[2].hash is not None]
        with self.sql:
            self.sql.executemany(
                "INSERT OR REPLACE INTO contents VALUES (?,?,?,?,?,?,?,?,?,?)", [entry for _, _, entry in told]
            )
            self.sql.executemany(
                "INSERT OR REPLACE INTO seen VALUES (?,?,?)",
                [(place, stamp, entry.hash) for place, stamp, entry in told if place and stamp],
            )

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows: path, layout, domain, label, split, group, hash, kind, reason."""
        with self.sql:
            self.sql.executemany(
                'INSERT INTO rows (path, layout, domain, label, split, "group", hash, kind, reason) '
                "VALUES (?,?,?,?,?,?,?,?,?)",
                rows,
            )

    def one(self, query: str, *parameters: Any) -> Any:
        """The first column of a query's first row."""
        found = self.sql.execute(query, parameters).fetchone()
        return found[0] if found else None

    def counts(self, query: str, *parameters: Any) -> dict[Any, int]:
        """A query of two columns as a dictionary."""
        return dict(self.sql.execute(query, parameters).fetchall())


def _marks(values: Sequence[str]) -> str:
    return f"({','.join('?' * len(values))})"


def _connected(file: Path, scratch: Path, limits: Limits) -> sqlite3.Connection:
    file.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(file, timeout=60)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("ATTACH ? AS work", (str(scratch / "rows.db"),))
        # The run's own rows need not outlive it.
        connection.execute("PRAGMA work.journal_mode = OFF")
        connection.execute("PRAGMA work.synchronous = OFF")
        connection.executescript(SCHEMA)
        rule = _rule(limits)
        if connection.execute("SELECT rule FROM known").fetchall() != [(rule,)]:
            with connection:
                for table in ("known", "contents", "seen"):
                    connection.execute(f"DELETE FROM {table}")
                connection.execute("INSERT OR REPLACE INTO known VALUES (?)", (rule,))
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _rule(limits: Limits) -> str:
    """What decided on the contents that are known: other code or limits may decide otherwise."""
    return fingerprint([file_digest(Path(str(module.__file__))) for module in (decode, examine)], limits)
