"""What libraries raise, as lines: exceptions are those that they do raise."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from prefect.exceptions import PrefectHTTPStatusError
from sqlalchemy import create_engine, text

from flows.causes import explain, explained
from tasks.errors import ConfigurationError, HeadstartError, RegistryError, ServerError, StorageError
from tasks.register.store import connect
from tasks.workspace import Workspace
from tests.flows.hearing import heard
from tests.flows.test_remote import answering


def raised_by(work) -> Exception:  # type: ignore[no-untyped-def]
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def line(error: BaseException, workspace: Workspace, kind: type[HeadstartError]) -> str:
    told = explain(error, workspace)
    assert type(told) is kind, told
    assert len(str(told).splitlines()) == 1
    return str(told)


@pytest.fixture(autouse=True)
def _mlruns(workspace: Workspace) -> None:
    workspace.mlruns.mkdir()


def test_a_full_disk_by_whatever_way_it_is_told(workspace: Workspace, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/one.db")

    def fill_database() -> None:
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE t (x)"))
            connection.execute(text("PRAGMA max_page_count = 2"))
            connection.execute(text("INSERT INTO t VALUES (zeroblob(100000))"))

    for error in (
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/features"),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/data/features"),
        raised_by(fill_database),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ):
        assert "is full: make room and run the command again" in line(error, workspace, StorageError)
    assert "the disk of /data/features is full" in line(
        OSError(errno.ENOSPC, "x", "/data/features"), workspace, StorageError
    )


def test_the_cause_is_found_however_deep_it_lies(workspace: Workspace) -> None:
    def wrapped() -> None:
        try:
            try:
                raise OSError(errno.ENOSPC, "No space left on device", "/x")
            except OSError as error:
                raise ValueError("could not save") from error
        except ValueError:
            raise KeyError("while that was handled")  # noqa: B904

    assert "the disk of /x is full" in line(raised_by(wrapped), workspace, StorageError)


def test_files_of_others(workspace: Workspace) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "/home/anna/mlruns/model")
    assert "/home/anna/mlruns/model cannot be used (permission denied)" in line(error, workspace, StorageError)


@pytest.mark.slow
def test_a_store_that_may_only_be_read(workspace: Workspace) -> None:
    connect(workspace)
    engine = create_engine(f"sqlite:///file:{workspace.mlruns}/mlflow.db?mode=ro&uri=true")

    def write() -> None:
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE t (x)"))

    assert f"{workspace.mlruns}/mlflow.db cannot be written" in line(raised_by(write), workspace, StorageError)


@pytest.mark.slow
def test_a_schema_of_another_version(workspace: Workspace) -> None:
    connect(workspace).create_registered_model("digits")
    path = workspace.mlruns / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0584bdc529eb'")
    copied = path.rename(path.with_name("copied.db"))  # MLflow keeps what it opened
    error = raised_by(lambda: MlflowClient(f"sqlite:///{copied}").search_registered_models())
    assert "made by another version of MLflow" in line(error, workspace, StorageError)


def test_a_server_that_goes_while_it_is_used(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:s3cret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    error = raised_by(lambda: connect(workspace).search_registered_models())
    told = line(error, workspace, ServerError)
    assert "no MLflow server answers at http://me:***@127.0.0.1:9" in told and "Connection refused" in told


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [(401, RegistryError, "MLFLOW_TRACKING_USERNAME"), (403, RegistryError, "MLFLOW_TRACKING_USERNAME"),
     (500, ServerError, "its log says why")],
)  # fmt: skip
def test_a_server_that_refuses_or_fails(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, status: int, kind: type[HeadstartError], words: str
) -> None:
    with answering(status) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        error = raised_by(lambda: connect(workspace).search_registered_models())
        told = line(error, workspace, kind)
    assert address in told and words in told


@pytest.mark.parametrize("kept", ["<<<<<<< HEAD\n[core]\n=======\n[cache]\n>>>>>>> theirs\n", "[core\n", "\x00"])
def test_a_configuration_of_dvc_that_a_merge_left_broken(workspace: Workspace, kept: str) -> None:
    from dvc.repo import Repo

    Repo.init(str(workspace.root), no_scm=True).close()
    (workspace.root / ".dvc" / "config").write_text(kept)
    told = line(raised_by(lambda: Repo(str(workspace.root))), workspace, ConfigurationError)
    assert f"{workspace.root}/.dvc/config cannot be read" in told and "git checkout" in told


def test_a_registry_that_takes_no_changes_says_why(workspace: Workspace) -> None:
    full = RegistryError("the registry takes no changes")
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device", "/x")
    assert "the disk of /x is full" in line(full, workspace, StorageError)
    bare = RegistryError("there is no registered model")
    bare.__cause__ = MlflowException("not found")
    assert explain(bare, workspace) is bare


def test_a_line_that_was_found_inside_stays(workspace: Workspace) -> None:
    told = StorageError("the features cannot be kept")
    told.__cause__ = OSError(errno.ENOSPC, "No space left on device", "/x")
    with pytest.raises(StorageError, match="the features cannot be kept"), explained(workspace):
        raise told


def test_a_bug_keeps_its_traceback(workspace: Workspace) -> None:
    for error in (
        KeyError("x"), MlflowException("no such thing"), requests.ConnectionError("refused"),
        subprocess.CalledProcessError(1, "git"),
    ):  # fmt: skip
        assert explain(error, workspace) is None
        with pytest.raises(type(error)), explained(workspace):
            raise error


def test_the_traceback_of_what_is_told_goes_to_the_log(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(StorageError), explained(workspace):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "Traceback" in caplog.text and "No space left" in caplog.text


def test_a_prefect_server_that_went_away(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    error = raised_by(lambda: httpx.get("http://127.0.0.1:9/api/health", trust_env=False))
    assert "the Prefect server at http://127.0.0.1:9/api went away" in line(error, workspace, ServerError)


def test_a_prefect_server_whose_port_another_has(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    with heard() as another:
        request = httpx.Request("GET", f"{another.url}/csrf-token")
        error = PrefectHTTPStatusError("Client error '401 Unauthorized'", request=request, response=httpx.Response(401))
        monkeypatch.setenv("PREFECT_API_URL", another.url)
        assert explain(error, workspace) is None  # the user's own: Prefect says that the credentials are wrong
        monkeypatch.setenv("HEADSTART_SERVER_URL", another.url)
        assert "and another has its port: run the command again" in line(error, workspace, ServerError)
