"""The registered models of a workspace's own store, read and changed without MLflow, whose import takes seconds.

MLflow keeps them in a SQLite file. What is done to its rows here is what MLflow 3.17 does to them. That holds for
`REVISION`, the schema that version made: whoever opens a file of that schema has to understand what MLflow 3.17 wrote
into it, whichever version they have. A file of another schema is left to MLflow, and so is one with anything in it that
MLflow itself would refuse. Each change is a transaction that begins by taking the file, so no two can meet, and each
number is given out once.
"""

from __future__ import annotations

import ast
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.register.client import Declined

REVISION = "dc11669786a5"
"""The schema whose rows are known here."""

# Asks for SQLite's JSON as well, which the other statements need.
KNOWN = """
SELECT version_num, json('true') FROM alembic_version
WHERE NOT EXISTS (SELECT 1 FROM registered_models WHERE workspace <> 'default')
    AND NOT EXISTS (SELECT 1 FROM webhooks WHERE workspace <> 'default')
"""

MODELS = """
SELECT name, creation_time,
    (SELECT json_group_object(key, value) FROM registered_model_tags AS t
        WHERE t.workspace = m.workspace AND t.name = m.name),
    (SELECT json_group_object(alias, version) FROM registered_model_aliases AS a
        WHERE a.workspace = m.workspace AND a.name = m.name)
FROM registered_models AS m
WHERE workspace = 'default' AND NOT EXISTS (SELECT 1 FROM registered_model_tags AS t
    WHERE t.workspace = m.workspace AND t.name = m.name AND key = 'mlflow.prompt.is_prompt' AND value = 'true')
"""

# A version that was deleted stays as a row of a stage of its own.
VERSIONS = """
SELECT name, version, creation_time, description, run_id,
    (SELECT json_group_object(key, value) FROM model_version_tags AS t
        WHERE t.workspace = v.workspace AND t.name = v.name AND t.version = v.version)
FROM model_versions AS v
WHERE workspace = 'default' AND current_stage <> 'Deleted_Internal' AND name = ?
"""
TAGGED = """ AND EXISTS (SELECT 1 FROM model_version_tags AS t
    WHERE t.workspace = v.workspace AND t.name = v.name AND t.version = v.version AND key = ? AND value = ?)"""

ADD_VERSION = """
INSERT INTO model_versions
    (workspace, name, version, creation_time, last_updated_time, description, current_stage, source, storage_location,
    status)
VALUES ('default', ?1, ?2, ?3, ?3, ?4, 'None', ?5, ?5, 'READY')
"""
DELETE_VERSION = """
UPDATE model_versions SET current_stage = 'Deleted_Internal', last_updated_time = ?, description = NULL, user_id = NULL,
    source = 'REDACTED-SOURCE-PATH', run_id = 'REDACTED-RUN-ID', run_link = 'REDACTED-RUN-LINK', status_message = NULL
WHERE workspace = 'default' AND name = ? AND version = ?
"""

LONGEST = 100_000
"""Signs of a tag's value that MLflow takes."""

_LITERAL = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_FILTER = re.compile(rf"name ?= ?{_LITERAL}(?: and tags\.(\w+) = {_LITERAL})?", re.DOTALL)


@dataclass(frozen=True)
class OwnVersion:
    """See `tasks.register.client.Version`."""

    name: str
    version: int
    creation_timestamp: int
    description: str | None
    run_id: str | None
    tags: dict[str, str]


@dataclass(frozen=True)
class OwnModel:
    """See `tasks.register.client.Model`."""

    name: str
    creation_timestamp: int
    tags: dict[str, str]
    aliases: dict[str, int]


class Page(list[Any]):
    """All that was found; there is no further page."""

    token = None


@dataclass(frozen=True)
class OwnStore:
    """A workspace's own store as `tasks.register.client.Registry`; every call opens the file, so threads and forks may
    share it. Its methods mean what `mlflow.MlflowClient`'s of the same names do.

    Attributes:
        patience: seconds that another process may hold the file.

    Raises:
        Declined: by every method, where what it names is not there, or the file cannot be read or written.
    """

    file: Path
    tracking_uri: str
    patience: float

    @property
    def is_known(self) -> bool:
        """Whether the file has the schema whose rows are known here, and nothing that MLflow would refuse."""
        try:
            with self._opened() as database:
                found = database.execute(KNOWN).fetchall()
        except Declined:  # MLflow knows what it means, and says it
            return False
        return [revision for revision, _ in found] == [REVISION]

    def get_registered_model(self, name: str) -> OwnModel:
        with self._opened() as database:
            return _model(database, name)

    def search_registered_models(self, *, page_token: str | None = None) -> Page:
        with self._opened() as database:
            return Page(map(_as_model, database.execute(f"{MODELS} ORDER BY name")))

    def create_registered_model(self, name: str, *, description: str | None = None) -> OwnModel:
        with self._changed() as database:
            add = (
                "INSERT INTO registered_models (workspace, name, creation_time, last_updated_time, description) "
                "VALUES ('default', ?1, ?2, ?2, ?3)"
            )
            database.execute(add, (name, _now(), description))
            return _model(database, name)

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        with self._changed() as database:
            _model(database, name)
            put = (
                "INSERT OR REPLACE INTO registered_model_tags (workspace, name, key, value) VALUES ('default', ?, ?, ?)"
            )
            database.execute(put, (name, key, _whole(value)))

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        with self._changed() as database:
            _model(database, name)
            drop = "DELETE FROM registered_model_tags WHERE workspace = 'default' AND name = ? AND key = ?"
            database.execute(drop, (name, key))

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        with self._changed() as database:
            number = _version(database, name, version).version
            put = (
                "INSERT OR REPLACE INTO registered_model_aliases (workspace, name, alias, version) "
                "VALUES ('default', ?, ?, ?)"
            )
            database.execute(put, (name, alias, number))

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        with self._changed() as database:
            _model(database, name)
            drop = "DELETE FROM registered_model_aliases WHERE workspace = 'default' AND name = ? AND alias = ?"
            database.execute(drop, (name, alias))

    def get_model_version(self, name: str, version: str) -> OwnVersion:
        with self._opened() as database:
            return _version(database, name, version)

    def get_model_version_by_alias(self, name: str, alias: str) -> OwnVersion:
        with self._opened() as database:
            if alias.lower() == "latest":
                rows = database.execute(f"{VERSIONS} ORDER BY version DESC LIMIT 1", (name,)).fetchall()
                numbers = [row[1] for row in rows]
            else:
                aliases = _model(database, name).aliases
                numbers = [aliases[alias]] if alias in aliases else []
            if not numbers:
                raise Declined(f"registered model {name!r} has no alias {alias!r}", "INVALID_PARAMETER_VALUE")
            return _version(database, name, numbers[0])

    def get_model_version_download_uri(self, name: str, version: str) -> str:
        with self._opened() as database:
            number = _version(database, name, version).version
            asked = (
                "SELECT coalesce(nullif(storage_location, ''), source) FROM model_versions "
                "WHERE workspace = 'default' AND name = ? AND version = ?"
            )
            [place] = database.execute(asked, (name, number)).fetchone()
            return str(place)

    def search_model_versions(
        self, filter_string: str, *, max_results: int = 0, page_token: str | None = None
    ) -> Page:  # fmt: skip
        """Versions by a name or by a name and a tag, as in ``name = 'digits' and tags.born = '1'``; all of them."""
        asked = _FILTER.fullmatch(filter_string)
        if asked is None:
            raise ValueError(f"{filter_string!r} is no name, and no name and tag")
        name, key, value = asked.groups()
        wanted = [ast.literal_eval(name), *([key, ast.literal_eval(value)] if key else [])]
        with self._opened() as database:
            order = " ORDER BY last_updated_time DESC, version DESC"
            return Page(map(_as_version, database.execute(VERSIONS + TAGGED * bool(key) + order, wanted)))

    def create_model_version(
        self, name: str, source: str, *, tags: dict[str, Any], description: str | None = None,
        await_creation_for: int = 0,
    ) -> OwnVersion:  # fmt: skip
        with self._changed() as database:
            _model(database, name)
            last = "SELECT coalesce(max(version), 0) FROM model_versions WHERE workspace = 'default' AND name = ?"
            number, now = database.execute(last, (name,)).fetchone()[0] + 1, _now()
            database.execute(ADD_VERSION, (name, number, now, description, source))
            for key, value in tags.items():
                _tag(database, name, number, key, str(value))
            _touch(database, name, now)
            return _version(database, name, number)

    def update_model_version(self, name: str, version: str, description: str) -> None:
        with self._changed() as database:
            number = _version(database, name, version).version
            change = (
                "UPDATE model_versions SET description = ?, last_updated_time = ? "
                "WHERE workspace = 'default' AND name = ? AND version = ?"
            )
            database.execute(change, (description, _now(), name, number))

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        with self._changed() as database:
            _tag(database, name, _version(database, name, version).version, key, value)

    def delete_model_version(self, name: str, version: str) -> None:
        with self._changed() as database:
            number, now = _version(database, name, version).version, _now()
            drop = "DELETE FROM registered_model_aliases WHERE workspace = 'default' AND name = ? AND version = ?"
            database.execute(drop, (name, number))
            database.execute(DELETE_VERSION, (now, name, number))
            _touch(database, name, now)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        # Not read-only: what a killed process left half-written, SQLite takes back when it opens the file.
        where = f"{self.file.absolute().as_uri()}?mode=rw"
        try:
            with closing(sqlite3.connect(where, uri=True, timeout=self.patience, isolation_level=None)) as database:
                database.execute("PRAGMA foreign_keys = ON")
                yield database
        except sqlite3.OperationalError as error:
            raise Declined(str(error), "TEMPORARILY_UNAVAILABLE") from error
        except (sqlite3.Error, OverflowError) as error:
            raise Declined(str(error), "BAD_REQUEST") from error

    @contextmanager
    def _changed(self) -> Iterator[sqlite3.Connection]:
        """All that the block does, or nothing; nobody else changes the file meanwhile."""
        with self._opened() as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")


def _model(database: sqlite3.Connection, name: str) -> OwnModel:
    for row in database.execute(f"{MODELS} AND name = ?", (name,)):
        return _as_model(row)
    raise Declined(f"there is no registered model {name!r}", "RESOURCE_DOES_NOT_EXIST")


def _version(database: sqlite3.Connection, name: str, version: str | int) -> OwnVersion:
    _model(database, name)
    try:
        number = int(version)
    except ValueError as error:
        raise Declined(f"{version!r} is no number of a version", "INVALID_PARAMETER_VALUE") from error
    for row in database.execute(f"{VERSIONS} AND version = ?", (name, number)):
        return _as_version(row)
    raise Declined(f"registered model {name!r} has no version {version}", "RESOURCE_DOES_NOT_EXIST")


def _as_model(row: tuple[Any, ...]) -> OwnModel:
    name, born, tags, aliases = row
    return OwnModel(name, born, json.loads(tags), json.loads(aliases))


def _as_version(row: tuple[Any, ...]) -> OwnVersion:
    name, number, born, description, run, tags = row
    return OwnVersion(name, number, born, description, run, json.loads(tags))


def _tag(database: sqlite3.Connection, name: str, number: int, key: str, value: str) -> None:
    put = (
        "INSERT OR REPLACE INTO model_version_tags (workspace, name, version, key, value) "
        "VALUES ('default', ?, ?, ?, ?)"
    )
    database.execute(put, (name, number, key, _whole(value)))


def _touch(database: sqlite3.Connection, name: str, now: int) -> None:
    changed = "UPDATE registered_models SET last_updated_time = ? WHERE workspace = 'default' AND name = ?"
    database.execute(changed, (now, name))


def _whole(value: str) -> str:
    if len(value) > LONGEST:
        raise Declined(f"a tag's value has {len(value):,} signs, of which {LONGEST:,} fit", "INVALID_PARAMETER_VALUE")
    return value


def _now() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
