"""How long MLflow's store is waited for."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy import text

from flows.causes import explain
from tasks.errors import StorageError
from tasks.register import store
from tasks.register.store import BUSY_SECONDS, connect
from tasks.workspace import Workspace

BEGIN = """
import sys
from pathlib import Path
from tasks.register.store import connect
from tasks.workspace import Workspace
workspace = Workspace(Path(sys.argv[1]))
connect(workspace).create_experiment(sys.argv[2])
"""


def test_mlflow_waits_for_a_file_as_long_as_we_say(workspace: Workspace) -> None:
    workspace.mlruns.mkdir()
    tracking = connect(workspace)._tracking_client.store
    with tracking.ManagedSessionMaker() as session:
        assert session.execute(text("PRAGMA busy_timeout")).scalar() == 1000 * BUSY_SECONDS
    tracking.engine.dispose()  # a new connection, as MLflow opens a file
    with tracking.engine.connect() as connection:
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 1000 * BUSY_SECONDS


@pytest.mark.slow
def test_those_who_begin_a_store_at_once_share_it(workspace: Workspace) -> None:
    workspace.mlruns.mkdir()
    command = [sys.executable, "-c", BEGIN, str(workspace.root)]
    begun = [subprocess.Popen([*command, str(number)], stderr=subprocess.PIPE, text=True) for number in range(3)]
    for process in begun:
        _, told = process.communicate()
        assert process.returncode == 0, told
    assert {each.name for each in connect(workspace).search_experiments()} == {"Default", "0", "1", "2"}
    assert [path.name for path in workspace.mlruns.iterdir()] == ["mlflow.db"], "nothing else is left"


@pytest.mark.slow
def test_a_file_that_is_held_for_half_a_minute_is_waited_for(workspace: Workspace) -> None:
    workspace.mlruns.mkdir()
    client = connect(workspace)
    client.create_registered_model("digits")
    with closing(sqlite3.connect(workspace.mlruns / "mlflow.db", check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        threading.Timer(30, other.rollback).start()
        client.set_registered_model_tag("digits", "waited", "yes")
    assert connect(workspace).get_registered_model("digits").tags == {"waited": "yes"}


def test_one_that_is_held_longer_is_one_line(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.mlruns.mkdir()
    client = connect(workspace)
    client.create_registered_model("digits")
    monkeypatch.setattr(store, "BUSY_SECONDS", 0)
    with closing(sqlite3.connect(workspace.mlruns / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(MlflowException) as raised:
            client.set_registered_model_tag("digits", "waited", "no")
    told = explain(raised.value, workspace)
    assert isinstance(told, StorageError) and str(workspace.mlruns / "mlflow.db") in str(told)
    assert "was held by another process for more than" in str(told) and len(str(told).splitlines()) == 1
