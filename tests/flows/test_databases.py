"""Damaged databases and those of other versions: one line and the way out, before anything is started."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sqlalchemy import create_engine, text

from flows.stores.databases import check_records, prefect_database
from tasks.errors import ConfigurationError, ServerError, StorageError
from tasks.workspace import Workspace, sqlite_file, sqlite_url

ROOT = Path(__file__).parents[2]
AWKWARD = ["plain", "a?b", "a#b", "a%41b", "100%", "a b", "a&b=c", "?", "ä?mode=memory", "a//b;c"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An MLflow store with an experiment."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(sqlite_url(path)).create_experiment("digits")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


def damaged(content: bytes, how: str) -> bytes:
    match how:
        case "overwritten":
            return b"not a database" * 1000
        case "cut off":
            return content[: len(content) // 2]
        case "zeros within":
            return content[:8192] + bytes(40960) + content[49152:]
        case "a page of noise":
            return content[:12288] + os.urandom(4096) + content[16384:]
    raise AssertionError(how)


@pytest.mark.parametrize("how", ["overwritten", "cut off", "zeros within", "a page of noise"])
def test_a_damaged_store_is_one_line_with_the_way_out(workspace: Workspace, made: bytes, how: str) -> None:
    workspace.mlruns.mkdir()
    path = workspace.mlruns / "mlflow.db"
    path.write_bytes(damaged(made, how))
    with pytest.raises(
        StorageError, match=r"mlflow\.db is damaged \(.+\): restore it .* move mlflow\.db\* out"
    ) as told:
        check_records(workspace)
    assert len(str(told.value).splitlines()) == 1


def test_a_whole_store_an_empty_one_and_none_are_no_fault(workspace: Workspace, made: bytes) -> None:
    workspace.mlruns.mkdir()
    check_records(workspace)
    for content in (b"", made):
        (workspace.mlruns / "mlflow.db").write_bytes(content)
        check_records(workspace)


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ("0123456789ab", "by another version of mlflow"),
        ("0584bdc529eb", "by an older version of mlflow .* `mlflow db upgrade 'sqlite:///"),
    ],
)
def test_a_store_of_another_version_says_what_to_do(workspace: Workspace, made: bytes, schema: str, told: str) -> None:
    workspace.mlruns.mkdir()
    path = workspace.mlruns / "mlflow.db"
    path.write_bytes(made)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [schema])
    with pytest.raises(StorageError, match=told):
        check_records(workspace)


def test_it_is_the_store_in_use_that_is_looked_at(
    workspace: Workspace, tmp_path: Path, made: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.mlruns.mkdir()
    (workspace.mlruns / "mlflow.db").write_bytes(b"not a database" * 1000)
    shared = tmp_path / "team.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared}")
    shared.write_bytes(made)
    check_records(workspace)
    shared.write_bytes(damaged(made, "cut off"))
    with pytest.raises(StorageError, match=r"team\.db is damaged"):
        check_records(workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(ServerError, match=r"no MLflow server answers at http://127\.0\.0\.1:9 \(.*refused\)"):
        check_records(workspace)


def test_a_misspelt_address_is_one_line_and_a_stray_space_is_none(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "localhost:5000")
    with pytest.raises(ConfigurationError, match=r"^MLFLOW_TRACKING_URI is 'localhost:5000', which is no store"):
        check_records(workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", " http://127.0.0.1:9 ")
    with pytest.raises(ServerError, match=r"no MLflow server answers at http://127\.0\.0\.1:9 \("):
        check_records(workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", " ")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "localhost:5000")
    assert workspace.own_store
    with pytest.raises(ConfigurationError, match=r"^MLFLOW_REGISTRY_URI is 'localhost:5000'"):
        check_records(workspace)


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:////srv/team.db", "/srv/team.db"),
        ("sqlite:////srv/team.db?timeout=30", "/srv/team.db"),
        ("sqlite://", None),
        ("http://mlflow", None),
        ("postgresql://a:b@host/db", None),
    ],
)
def test_the_file_of_a_store(url: str, file: str | None) -> None:
    assert sqlite_file(url) == (file and Path(file))


@pytest.mark.parametrize("name", AWKWARD)
def test_a_file_is_found_by_its_url(name: str) -> None:
    path = Path("/srv") / name / "one.db"
    assert sqlite_file(sqlite_url(path)) == path


def test_a_damaged_history_of_prefects_is_told_before_a_server_starts(tmp_path: Path) -> None:
    home = tmp_path / "mlruns" / "prefect"
    home.mkdir(parents=True)
    (home / "prefect.db").write_bytes(b"not a database" * 1000)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "HEADSTART_"))}
    began = time.monotonic()
    finished = subprocess.run(
        [sys.executable, "-m", "flows.cli", "ui"], cwd=ROOT, capture_output=True, text=True,
        env=environment | {"HEADSTART_WORKSPACE": str(tmp_path)},
    )  # fmt: skip
    assert finished.returncode == 2 and time.monotonic() - began < 30
    [line] = finished.stderr.strip().splitlines()
    assert "prefect.db is damaged" in line and "Prefect then begins a new history" in line
    assert not (home / "server.json").exists()


def test_prefects_schema_is_known_to_the_installed_prefect(tmp_path: Path) -> None:
    database = prefect_database(tmp_path)
    for schema, fits in (("a3b9c7d2e5f1", True), ("ffffffffffff", False)):
        with closing(sqlite3.connect(database.path)) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32))")
            connection.execute("DELETE FROM alembic_version")
            connection.execute("INSERT INTO alembic_version VALUES (?)", [schema])
        if fits:
            database.check()
        else:
            with pytest.raises(StorageError, match="another version of prefect"):
                database.check()


@pytest.mark.parametrize("name", AWKWARD)
def test_a_database_lies_in_its_folder_whatever_the_folder_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder, elsewhere = tmp_path / name, tmp_path / "elsewhere"
    folder.mkdir(parents=True)
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with create_engine(sqlite_url(folder / "one.db")).begin() as connection:
        connection.execute(text("CREATE TABLE t (x)"))
    assert [path.name for path in folder.iterdir()] == ["one.db"]
    assert not list(elsewhere.iterdir())


def test_mlflow_keeps_to_a_folder_with_a_question_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, elsewhere = tmp_path / "a?b", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    client = MlflowClient(sqlite_url(folder / "mlflow.db"))
    assert client.get_run(client.create_run(client.create_experiment("digits")).info.run_id).info.status == "RUNNING"
    assert (folder / "mlflow.db").stat().st_size
    assert not list(elsewhere.iterdir()) and sorted(path.name for path in tmp_path.iterdir()) == ["a?b", "elsewhere"]
