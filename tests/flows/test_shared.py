"""Where files of runs go in a store that several workspaces share, and who may write it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flows.stores.shared import is_of_another, place_of_artifacts
from tasks.register.store import connect
from tasks.workspace import Workspace
from tests.flows.homes import ROOT


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_of_the_workspaces_own_store_stay_in_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    own = (workspace.mlruns / "artifacts" / "digits").as_uri()
    assert place_of_artifacts(workspace, "digits") == own
    monkeypatch.chdir(workspace.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlruns/mlflow.db")
    assert place_of_artifacts(workspace, "digits") == own


def test_a_shared_file_is_begun_for_all_who_may_write_its_folder(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shared := tmp_path / "team").mkdir()
    shared.chmod(0o2770)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared}/mlflow.db")
    connect(workspace)
    assert place_of_artifacts(workspace, "digits") == (shared / "artifacts" / "digits").as_uri()
    assert mode(shared / "mlflow.db") == 0o660
    for folder in ("artifacts", "artifacts/digits", "artifacts/digits/models"):
        assert mode(shared / folder) == 0o2770
    (shared / "mlflow.db").chmod(0o600)
    connect(workspace)
    assert mode(shared / "mlflow.db") == 0o600, "what is there is its owner's affair"


def test_a_place_can_be_named_for_a_file_and_a_database(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://team:secret@host/db")
    assert place_of_artifacts(workspace, "digits") == (workspace.mlruns / "artifacts" / "digits").as_uri()
    monkeypatch.setenv("HEADSTART_ARTIFACTS", "s3://bucket/team/")
    assert place_of_artifacts(workspace, "digits") == "s3://bucket/team/digits"
    monkeypatch.setenv("HEADSTART_ARTIFACTS", str(tmp_path / "nas"))
    assert place_of_artifacts(workspace, "digits") == (tmp_path / "nas" / "digits").as_uri()


def test_a_server_decides_for_itself(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_ARTIFACTS", "s3://bucket/team/")
    for uri in ("http://mlflow:5000", "https://mlflow", "databricks"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert place_of_artifacts(workspace, "digits") is None


def test_what_lies_in_another_workspace_is_told_from_what_is_shared(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://team:secret@host/db")
    own = place_of_artifacts(workspace, "digits")
    assert own and not is_of_another(own, workspace)
    assert is_of_another("file:///home/anna/work/mlruns/artifacts/digits", workspace)
    assert is_of_another("/home/anna/mlruns/1", workspace)
    for shared in ("s3://bucket/mlruns/artifacts/digits", "file:///srv/team/artifacts/digits", "mlflow-artifacts:/1"):
        assert not is_of_another(shared, workspace)


def test_what_is_named_by_a_relative_path_is_the_same_for_processes_of_other_folders(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os; from flows.servers.environment import settle; from tasks.workspace import Workspace\n"
        "settle(Workspace.find()); os.chdir('/'); settle(Workspace.find())\n"
        "print(os.environ['MLFLOW_TRACKING_URI'], os.environ['MLFLOW_REGISTRY_URI'], os.environ['HEADSTART_ARTIFACTS'])"
    )
    named = {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db", "MLFLOW_REGISTRY_URI": "sqlite:///r.db"}
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True, check=True,
        env=os.environ | named | {"HEADSTART_ARTIFACTS": "files", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert told.stdout.split() == [f"sqlite:///{tmp_path}/mlflow.db", f"sqlite:///{tmp_path}/r.db", f"{tmp_path}/files"]
