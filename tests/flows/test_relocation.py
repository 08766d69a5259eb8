"""A workspace that was renamed, moved or copied goes on working, and nothing is written where it was."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock
from uuid import uuid4

import pytest
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import DatasetInput
from pandas import DataFrame

from flows.config import PipelineConfig
from flows.runs import leases, relocation
from flows.runs.leases import Lease
from flows.runs.relocation import put_off, relocate
from flows.runs.tracking import _experiment, tracked
from flows.schedules import scheduled
from tasks.errors import StorageError
from tasks.owner import Owner
from tasks.workspace import Workspace, sqlite_url

AWKWARD = ["plain", "a b", "ä", "a#b", "a?b", "a%41b", "100%", "mlruns", "a'b"]


def client(workspace: Workspace) -> MlflowClient:
    return MlflowClient(workspace.tracking_uri)


def leave_a_version(workspace: Workspace, name: str = "digits", text: str = "old") -> str:
    """A run of an experiment, with a logged model, a registered version and a dataset; returns the run's id."""
    mlflow = client(workspace)
    experiment = _experiment(mlflow, name, workspace)
    run = mlflow.create_run(experiment).info.run_id
    mlflow.log_text(run, text, "config.yaml")
    logged = mlflow.create_logged_model(experiment, source_run_id=run)
    (folder := workspace.root / "made").mkdir(exist_ok=True)
    (folder / "MLmodel").write_text(text)
    mlflow.log_model_artifacts(logged.model_id, str(folder))
    if not mlflow.search_registered_models(f"name = '{name}'"):
        mlflow.create_registered_model(name)
    with pytest.MonkeyPatch.context() as patched:  # MLflow's registry asks the process's tracking store
        patched.setenv("MLFLOW_TRACKING_URI", workspace.tracking_uri)
        mlflow.create_model_version(name, f"models:/{logged.model_id}", run, model_id=logged.model_id)
    source = from_pandas(DataFrame({"a": [1]}), source=str(workspace.dvc_file), digest=run[:8])
    mlflow.log_inputs(run, [DatasetInput(source._to_mlflow_entity())])
    return run


def read(workspace: Workspace, run: str) -> tuple[str, str]:
    """What a run and the newest version of a model hold, wherever the store says that it lies."""
    mlflow = client(workspace)
    config = Path(mlflow.download_artifacts(run, "config.yaml")).read_text()
    version = mlflow.search_model_versions("name = 'digits'")[0]
    address = mlflow.get_model_version_download_uri("digits", str(version.version))
    return config, (relocation._path(address) / "MLmodel").read_text()  # type: ignore[operator]


def addresses(workspace: Workspace) -> str:
    """All of the store's text."""
    with closing(sqlite3.connect(workspace.mlruns / "mlflow.db")) as store:
        return "\n".join(store.iterdump())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A workspace with a run, and the run's id."""
    root = tmp_path_factory.mktemp("made") / "before"
    (workspace := Workspace(root)).mlruns.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        patched.chdir(root)
        return root, leave_a_version(workspace)


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def before(made: tuple[Path, str], tmp_path: Path) -> tuple[Workspace, str]:
    """A workspace of the test's own that knows where it is, and its run."""
    root, run = made
    shutil.copytree(root, tmp_path / "before")
    workspace = Workspace(tmp_path / "before")
    assert relocate(workspace) == [root]
    return workspace, run


def move(workspace: Workspace, target: Path) -> Workspace:
    shutil.move(workspace.root, target)
    return Workspace(target)


@pytest.mark.slow
@pytest.mark.parametrize("name", AWKWARD)
def test_a_moved_workspace_reads_and_writes_where_it_is(
    before: tuple[Workspace, str], tmp_path: Path, name: str
) -> None:
    was, run = before
    there = move(move(was, tmp_path / name), tmp_path / "a?2") if name == "a?b" else move(was, tmp_path / name)
    assert relocate(there) == [was.root]
    assert relocate(there) == []
    assert read(there, run) == ("old", "old")
    assert f"{was.root}/" not in addresses(there)
    later = leave_a_version(there, text="new")
    assert read(there, later) == ("new", "new") and client(there).download_artifacts(run, "config.yaml")
    again = move(there, tmp_path / "again")
    assert relocate(again) == [there.root]
    assert read(again, later) == ("new", "new")
    assert not was.root.exists() and not there.root.exists()


def test_a_copy_has_its_own_and_the_first_stays_as_it_is(before: tuple[Workspace, str], tmp_path: Path) -> None:
    was, run = before
    copy = Workspace(shutil.copytree(was.root, tmp_path / "copy"))
    files = {path: path.read_bytes() for path in was.root.rglob("*") if path.is_file()}
    assert relocate(copy) == [was.root] and relocate(was) == []
    later = leave_a_version(copy, text="new")
    (copy.artifacts / "digits" / run / "artifacts" / "config.yaml").write_text("edited")
    assert (copy.artifacts / "digits" / later / "artifacts" / "config.yaml").is_file()
    assert {path: path.read_bytes() for path in was.root.rglob("*") if path.is_file()} == files
    assert read(was, run) == ("old", "old") and read(copy, run)[0] == "edited"


@pytest.mark.parametrize("inside", ["the old place", "the new place"])
def test_one_place_may_lie_in_the_other(before: tuple[Workspace, str], tmp_path: Path, inside: str) -> None:
    was, run = before
    if inside == "the old place":
        there = move(move(was, tmp_path / "aside"), was.root / "within")
    else:
        (outer := tmp_path / "outer").mkdir()
        was = move(was, outer / "within")
        relocate(was)
        aside = move(was, tmp_path / "aside")
        outer.rmdir()
        there = move(aside, outer)
    assert relocate(there) == [was.root] and relocate(there) == []
    assert read(there, run) == ("old", "old")


def test_addresses_elsewhere_stay(before: tuple[Workspace, str], tmp_path: Path) -> None:
    was, _ = before
    elsewhere = {
        "bucket": "s3://team/mlruns/artifacts/bucket",
        "beside": (tmp_path / "before2" / "mlruns").as_uri(),  # begins with the letters of the old place
        "team": (tmp_path / "team" / "mlruns" / "artifacts" / "flowers").as_uri(),
        "plain": "/srv/mlruns/artifacts",
    }
    for name, address in elsewhere.items():
        client(was).create_experiment(name, address)
    client(was).create_experiment("within", (was.root / "my own").as_uri())
    there = move(was, tmp_path / "after")
    assert relocate(there) == [was.root]
    kept = {each.name: each.artifact_location for each in client(there).search_experiments()}
    assert {name: kept[name] for name in elsewhere} == elsewhere
    assert kept["within"] == (there.root / "my own").as_uri()


def test_models_are_found_though_their_experiment_was_removed(before: tuple[Workspace, str], tmp_path: Path) -> None:
    was, _ = before
    with closing(sqlite3.connect(was.mlruns / "mlflow.db")) as store, store:
        store.execute("UPDATE experiments SET name = 'renamed', artifact_location = 's3://x' WHERE name = 'digits'")
    there = move(was, tmp_path / "after")
    assert relocate(there) == [was.root]
    assert client(there).get_model_version_download_uri("digits", "1").startswith(there.artifacts.as_uri())


def test_without_its_artifacts_nothing_is_written_into_the_old_place_either(
    before: tuple[Workspace, str], tmp_path: Path
) -> None:
    was, _ = before
    ignored = shutil.ignore_patterns("artifacts")
    copy = Workspace(shutil.copytree(was.root, tmp_path / "copy", ignore=ignored))
    assert relocate(copy) == [was.root]
    run = leave_a_version(copy)
    assert (copy.artifacts / "digits" / run / "artifacts" / "config.yaml").is_file()


def test_a_link_left_in_the_old_place_leads_here(before: tuple[Workspace, str], tmp_path: Path) -> None:
    was, run = before
    there = move(was, tmp_path / "after")
    was.root.symlink_to(there.root)
    assert relocate(there) == [] and read(there, run) == ("old", "old")
    was.root.unlink()
    assert relocate(there) == [was.root] and read(there, run) == ("old", "old")


def test_commands_at_once_leave_a_whole_store(before: tuple[Workspace, str], tmp_path: Path) -> None:
    was, run = before
    there = move(was, tmp_path / "after")
    start, found = threading.Barrier(8), []

    def command() -> None:
        start.wait()
        found.append(relocate(there))

    threads = [threading.Thread(target=command) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and [was.root] in found
    assert read(there, run) == ("old", "old")


def test_a_store_that_is_held_is_one_line_and_stays(
    before: tuple[Workspace, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was, run = before
    there = move(was, tmp_path / "after")
    monkeypatch.setattr(relocation, "PATIENCE", 0.1)
    with closing(sqlite3.connect(there.mlruns / "mlflow.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match=r"after a move .*\(database is locked\): end what holds"):
            relocate(there)
        other.rollback()
    assert str(was.root) in addresses(there)
    assert relocate(there) == [was.root] and read(there, run) == ("old", "old")


def test_the_store_is_known_by_another_name_and_others_are_left_alone(
    before: tuple[Workspace, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was, run = before
    there = move(was, tmp_path / "after")
    monkeypatch.chdir(there.root)
    for other in (sqlite_url(tmp_path / "team.db"), "http://localhost:5000", "postgresql://localhost/team"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
        assert relocate(there) == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlruns/mlflow.db")
    assert relocate(there) == [was.root]
    assert read(there, run) == ("old", "old")


def test_a_new_workspace_and_an_empty_store_have_moved_from_nowhere(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert relocate(workspace) == []
    workspace.mlruns.mkdir()
    (workspace.mlruns / "mlflow.db").touch()
    assert relocate(workspace) == []


def at_work(workspace: Workspace) -> Lease:
    """The lease of a run at work in a container."""
    lease = Lease(replace(Owner.here(), machine="another", host="box", pid=7), "run", "")
    leases.write(lease, workspace)
    return lease


def test_addresses_stay_while_a_run_is_at_work_elsewhere_and_another_run_is_refused_meanwhile(
    before: tuple[Workspace, str], tmp_path: Path
) -> None:
    was, run = before
    lease = at_work(was)
    assert relocate(was) == []
    assert put_off(was) == ""
    there = move(was, tmp_path / "after")
    assert relocate(there) == [] and str(was.root) in addresses(there)
    told = rf"process 7 on box is at work in this workspace, which is {was.root} there and {there.root} here"
    assert put_off(there).startswith(told)
    with pytest.raises(StorageError, match=told), tracked(PipelineConfig(name="digits"), there, "second"):
        pass
    assert len(client(there).search_runs(["1"])) == 1 and not was.root.exists()
    leases.end(lease, there)
    with pytest.raises(ZeroDivisionError), tracked(PipelineConfig(name="digits"), there, "second"):
        raise ZeroDivisionError
    assert read(there, run) == ("old", "old") and not was.root.exists()


def test_a_run_of_a_schedule_or_worker_follows_the_workspace(
    before: tuple[Workspace, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was, run = before
    there = move(was, tmp_path / "after")
    monkeypatch.setattr(scheduled, "_run", lambda *_: 0)
    assert scheduled.run_as("digits", uuid4(), there, Mock()) == 0
    assert read(there, run) == ("old", "old")
