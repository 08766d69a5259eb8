"""MLflow's store as the registry and the record of runs use it, and how long they wait for one that is busy."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tasks.register.client import Registry
from tasks.register.empty import EmptyStore
from tasks.register.own import OwnStore
from tasks.workspace import Workspace, sqlite_file, sqlite_url

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

BUSY_SECONDS = 90
"""How long a SQLite file is waited for that another process holds: a copy, a backup or a slow disk takes half a
minute."""

ELSEWHERE = ("MLFLOW_REGISTRY_URI", "MLFLOW_ENABLE_WORKSPACES", "MLFLOW_WORKSPACE")
"""Variables by which MLflow looks for registered models in other places than the tracking store, or other rows."""


def open_registry(workspace: Workspace) -> Registry:
    """What looks versions up and moves aliases: a workspace's own store without MLflow, whose import takes seconds, and
    every other store, or a file of another version of MLflow, by its client. One that is not there is not begun."""
    if file := own_registry(workspace):
        own = OwnStore(file, workspace.tracking_uri, BUSY_SECONDS)
        if own.is_known:
            return own
    return look_into(workspace)


def own_registry(workspace: Workspace) -> Path | None:
    """The file of the workspace's own store, where registered models are in it; None where they are not."""
    file = workspace.own_store
    return file if file and file.is_file() and not any(map(os.environ.get, ELSEWHERE)) else None


def look_into(workspace: Workspace) -> MlflowClient:
    """A client of the workspace's store for who only looks: one that is not there is empty, and is not begun."""
    file = sqlite_file(workspace.tracking_uri)
    if file and not file.exists() and not any(map(os.environ.get, ELSEWHERE)):
        return cast("MlflowClient", EmptyStore(workspace.tracking_uri))
    return connect(workspace)


def connect(workspace: Workspace) -> MlflowClient:
    """A client of the workspace's store, which is begun where it is a file that is not there yet."""
    from mlflow import MlflowClient

    wait_for_locks()
    file = sqlite_file(workspace.tracking_uri)
    if workspace.own_store and workspace.is_writable:
        workspace.mlruns.mkdir(parents=True, exist_ok=True)
    if file and not file.exists() and os.access(file.parent, os.W_OK):
        _begin(file, shared=workspace.own_store is None)
    return MlflowClient(workspace.tracking_uri)


def _begin(file: Path, shared: bool) -> None:
    """Make a store, whole before anybody sees it: of two processes that make the tables of one file, MLflow fails one.

    Args:
        shared: whoever may write its folder may write it.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with tempfile.TemporaryDirectory(prefix=".begun-", dir=file.parent) as folder:
        made = Path(folder) / file.name
        SqlAlchemyStore(sqlite_url(made), str(file.parent)).engine.dispose()
        if shared:
            share(made, file.parent)
        try:
            os.link(made, file)
        except FileExistsError:
            return  # another one was first
        except OSError:  # no such links in this file system
            made.rename(file)


def share(path: Path, around: Path) -> None:
    """Give a file or folder to whom the folder around it belongs."""
    status = around.stat()
    mode = stat.S_IMODE(status.st_mode)
    with suppress(PermissionError):  # of a group that this user is not in
        os.chown(path, -1, status.st_gid)
    path.chmod(mode if path.is_dir() else mode & 0o666)


def keeper_of(client: MlflowClient, run: Run, kind: str) -> Run:
    """The run that keeps the files of a run's record: itself, or an earlier one that made the same; where that one is
    gone for good, the last that names it.

    Earlier headstarts may have named a run that names another one.
    """
    from mlflow.exceptions import MlflowException

    passed: set[str] = set()
    while (keeper := run.data.tags.get(f"{kind}.files")) and run.info.run_id not in passed:
        passed.add(run.info.run_id)
        try:
            run = client.get_run(keeper)
        except MlflowException:
            break
    return run


@cache
def wait_for_locks() -> None:
    """Have this process wait `BUSY_SECONDS` for SQLite files.

    MLflow gives up after 5 s while it opens a file, Python's default, and after the 20 s that it sets itself before
    each of its transactions; it has no setting for either.
    """
    from sqlalchemy import Engine, event

    event.listen(Engine, "connect", _be_patient)
    event.listen(Engine, "before_cursor_execute", _stay_patient, retval=True)


def _be_patient(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS}")


def _stay_patient(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
    if statement.startswith("PRAGMA busy_timeout"):
        statement = f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS}"
    return statement, parameters
