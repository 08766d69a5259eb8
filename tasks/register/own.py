"""The registered models of a workspace's own store, read and changed without MLflow, whose import takes seconds.

MLflow keeps them in a SQLite file, whose rows `tasks.register.rows` knows in one schema. A file of another one is left
to MLflow, and so is one with anything in it that MLflow itself would refuse. Each change is a transaction that begins
by taking the file, so no two can meet, and each number is given out once.
"""

from __future__ import annotations

import ast
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.register import rows
from tasks.register.client import Declined
from tasks.register.rows import OwnModel, OwnVersion

_LITERAL = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_FILTER = re.compile(rf"name ?= ?{_LITERAL}(?: and tags\.(\w+) = {_LITERAL})?", re.DOTALL)


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
                found = database.execute(rows.KNOWN).fetchall()
        except Declined as error:
            if "locked" in str(error):  # for MLflow, too
                raise
            return False  # MLflow knows what it means, and says it
        return [revision for revision, _ in found] == [rows.REVISION]

    def get_registered_model(self, name: str) -> OwnModel:
        with self._opened() as database:
            return rows.find_model(database, name)

    def search_registered_models(self, *, page_token: str | None = None) -> Page:
        with self._opened() as database:
            return Page(map(rows.as_model, database.execute(f"{rows.MODELS} ORDER BY name")))

    def create_registered_model(self, name: str, *, description: str | None = None) -> OwnModel:
        with self._changed() as database:
            database.execute(rows.ADD_MODEL, (name, _now(), description))
            return rows.find_model(database, name)

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        with self._changed() as database:
            rows.find_model(database, name)
            database.execute(rows.PUT_MODEL_TAG, (name, key, rows.whole(value)))

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        with self._changed() as database:
            rows.find_model(database, name)
            database.execute(rows.DROP_MODEL_TAG, (name, key))

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        with self._changed() as database:
            number = rows.find_version(database, name, version).version
            database.execute(rows.PUT_ALIAS, (name, alias, number))

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        with self._changed() as database:
            rows.find_model(database, name)
            database.execute(rows.DROP_ALIAS, (name, alias))

    def get_model_version(self, name: str, version: str) -> OwnVersion:
        with self._opened() as database:
            return rows.find_version(database, name, version)

    def get_model_version_by_alias(self, name: str, alias: str) -> OwnVersion:
        with self._opened() as database:
            if alias.lower() == "latest":
                newest = database.execute(f"{rows.VERSIONS} ORDER BY version DESC LIMIT 1", (name,))
                numbers = [rows.as_version(row).version for row in newest]
            else:
                aliases = rows.find_model(database, name).aliases
                numbers = [aliases[alias]] if alias in aliases else []
            if not numbers:
                raise Declined(f"registered model {name!r} has no alias {alias!r}", "INVALID_PARAMETER_VALUE")
            return rows.find_version(database, name, numbers[0])

    def get_model_version_download_uri(self, name: str, version: str) -> str:
        with self._opened() as database:
            number = rows.find_version(database, name, version).version
            [place] = database.execute(rows.PLACE, (name, number)).fetchone()
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
            return Page(map(rows.as_version, database.execute(rows.VERSIONS + rows.TAGGED * bool(key) + order, wanted)))

    def create_model_version(
        self, name: str, source: str, *, tags: dict[str, Any], description: str | None = None,
        await_creation_for: int = 0,
    ) -> OwnVersion:  # fmt: skip
        with self._changed() as database:
            rows.find_model(database, name)
            number, now = database.execute(rows.LAST_NUMBER, (name,)).fetchone()[0] + 1, _now()
            database.execute(rows.ADD_VERSION, (name, number, now, description, source))
            for key, value in tags.items():
                database.execute(rows.PUT_VERSION_TAG, (name, number, key, rows.whole(str(value))))
            database.execute(rows.TOUCH, (now, name))
            return rows.find_version(database, name, number)

    def update_model_version(self, name: str, version: str, description: str) -> None:
        with self._changed() as database:
            number = rows.find_version(database, name, version).version
            database.execute(rows.DESCRIBE_VERSION, (description, _now(), name, number))

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        with self._changed() as database:
            number = rows.find_version(database, name, version).version
            database.execute(rows.PUT_VERSION_TAG, (name, number, key, rows.whole(value)))

    def delete_model_version(self, name: str, version: str) -> None:
        with self._changed() as database:
            number, now = rows.find_version(database, name, version).version, _now()
            database.execute(rows.DROP_ALIASES, (name, number))
            database.execute(rows.DELETE_VERSION, (now, name, number))
            database.execute(rows.TOUCH, (now, name))

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


def _now() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
