"""What an ingestion knows, in SQLite files, so that memory does not grow with the dataset and a killed run goes on.

``contents`` and ``seen`` outlive the run: what is known of a content, and which content a file of a certain size and
time had, each by the rule that decided so. ``rows`` is the dataset in the making, one row per thing that the source
holds; it lies in a folder of the run.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from tasks.fingerprint import file_digest, fingerprint
from tasks.ingest import decode, depth, examine, formats
from tasks.ingest.examine import Examined
from tasks.limits import Limits

SCHEMA = """
CREATE TABLE IF NOT EXISTS rules (id INTEGER PRIMARY KEY, rule TEXT UNIQUE, used REAL);
CREATE TABLE IF NOT EXISTS known_contents (
    rule INTEGER, hash TEXT, size INTEGER, width INTEGER, height INTEGER, format TEXT, mode TEXT, dhash INTEGER,
    odd TEXT, kind TEXT, reason TEXT, stored INTEGER, PRIMARY KEY (rule, hash)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known_files (
    rule INTEGER, place TEXT, stamp TEXT, hash TEXT, PRIMARY KEY (rule, place)
) WITHOUT ROWID;
CREATE TABLE work.rows (
    id INTEGER PRIMARY KEY, path TEXT, layout TEXT, domain TEXT, label TEXT, split TEXT, "group" TEXT, hash TEXT,
    kind TEXT, reason TEXT, further TEXT
);
CREATE TABLE work.noted (kind TEXT, id INTEGER, reason TEXT);
CREATE TABLE work.named (label TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE work.remarks (kind TEXT, about TEXT, reason TEXT);
CREATE TABLE work.near (first INTEGER, second INTEGER, bits INTEGER);
CREATE INDEX work.by_hash ON rows (hash);
"""

EARLIER = "".join(f"DROP TABLE IF EXISTS main.{table};" for table in ("rules", "known_contents", "known_files"))

VIEWS = """
CREATE TEMP VIEW contents AS
    SELECT hash, size, width, height, format, mode, dhash, odd, kind, reason, stored
    FROM main.known_contents WHERE rule = {id};
CREATE TEMP VIEW seen AS SELECT place, stamp, hash FROM main.known_files WHERE rule = {id};
"""

SHAPE = 1
"""Of the tables that outlive a run: those of another shape are made anew."""

FORGOTTEN = 30 * 24 * 3600
"""Seconds after which a rule that nobody used is forgotten, with all that it decided."""

USED = "rows.kind IS NULL"
"""SQL condition of the rows that are in the dataset so far."""


class DamagedJournal(Exception):
    """A disk fault or another program has damaged a journal, which has been removed: it is only a cache."""


@contextmanager
def scratch_folder(cache: Path) -> Iterator[Path]:
    """A folder for one run; those of killed runs, whose locks nobody holds any more, are removed."""
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "ingest.lock"):
        for left in cache.glob("ingest-*/"):
            with suppress(OSError), FileLock(left / "lock", blocking=False):  # else it is at work, or gone meanwhile
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=cache, prefix="ingest-"))
        lock = FileLock(folder / "lock")
        lock.acquire()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


class Journal:
    """The tables of an ingestion. Queries are SQL; `tasks.ingest.relations` and `splits` work on ``rows``."""

    def __init__(self, connection: sqlite3.Connection, rule: int) -> None:
        self.sql, self.rule = connection, rule

    @classmethod
    @contextmanager
    def open(cls, file: Path, scratch: Path, limits: Limits) -> Iterator[Journal]:
        """Open the journal of a workspace, with fresh ``rows`` in ``scratch``.

        Raises:
            DamagedJournal: now or while it is used; the next one is begun anew.
        """
        try:
            with closing(sqlite3.connect(file, timeout=60)) as connection:
                with FileLock(file.with_name("journal.lock")):  # for what SQLite does not wait for others
                    rule = _settled(connection, scratch, limits)
                yield cls(connection, rule)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise  # a full disk, say
            for left in file.parent.glob(f"{file.name}*"):
                left.unlink(missing_ok=True)
            raise DamagedJournal(str(file)) from error

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
                f"INSERT OR REPLACE INTO known_contents VALUES ({self.rule},?,?,?,?,?,?,?,?,?,?,?)",
                [entry[:-1] for _, _, entry in told],
            )
            self.sql.executemany(
                f"INSERT OR REPLACE INTO known_files VALUES ({self.rule},?,?,?)",
                [(place, stamp, entry.hash) for place, stamp, entry in told if place and stamp],
            )

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows: path, layout, domain, label, split, group, hash, kind, reason, further."""
        with self.sql:
            self.sql.executemany(
                'INSERT INTO rows (path, layout, domain, label, split, "group", hash, kind, reason, further) '
                "VALUES (?,?,?,?,?,?,?,?,?,?)",
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


def _settled(connection: sqlite3.Connection, scratch: Path, limits: Limits) -> int:
    """Make the tables that are missing; returns what the rule of this run goes by in them."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("ATTACH ? AS work", (str(scratch / "rows.db"),))
    # The run's own rows need not outlive it.
    connection.execute("PRAGMA work.journal_mode = OFF")
    connection.execute("PRAGMA work.synchronous = OFF")
    if connection.execute("PRAGMA user_version").fetchone() != (SHAPE,):
        connection.executescript(f"{EARLIER} PRAGMA user_version = {SHAPE};")
    connection.executescript(SCHEMA)
    now = time.time()
    with connection:
        # Not at once: another run may be at work by other limits.
        for (old,) in connection.execute("SELECT id FROM rules WHERE used < ?", (now - FORGOTTEN,)).fetchall():
            for table, column in (("known_contents", "rule"), ("known_files", "rule"), ("rules", "id")):
                connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (old,))
        (id,) = connection.execute(
            "INSERT INTO rules (rule, used) VALUES (?, ?) ON CONFLICT (rule) DO UPDATE SET used = ?2 RETURNING id",
            (_rule(limits), now),
        ).fetchone()
    connection.executescript(VIEWS.format(id=id))
    return id


def _rule(limits: Limits) -> str:
    """What decided on the contents that are known: other code or limits may decide otherwise."""
    modules = (decode, depth, formats, examine)
    return fingerprint([file_digest(Path(str(module.__file__))) for module in modules], limits, formats.extras())
