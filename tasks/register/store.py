"""MLflow's store as the registry and the record of runs use it, and how long they wait for one that is busy."""

from __future__ import annotations

import sqlite3
from functools import cache
from typing import Any

from mlflow import MlflowClient
from sqlalchemy import Engine, event

from tasks.workspace import Workspace

BUSY_SECONDS = 90
"""How long a SQLite file is waited for that another process holds: a copy, a backup or a slow disk takes half a
minute."""


def connect(workspace: Workspace) -> MlflowClient:
    """A client of the workspace's store."""
    wait_for_locks()
    return MlflowClient(workspace.tracking_uri)


@cache
def wait_for_locks() -> None:
    """Have this process wait `BUSY_SECONDS` for SQLite files.

    MLflow gives up after 5 s while it opens a file, Python's default, and after the 20 s that it sets itself before
    each of its transactions; it has no setting for either.
    """
    event.listen(Engine, "connect", _be_patient)
    event.listen(Engine, "before_cursor_execute", _stay_patient, retval=True)


def _be_patient(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS}")


def _stay_patient(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
    if statement.startswith("PRAGMA busy_timeout"):
        statement = f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS}"
    return statement, parameters
