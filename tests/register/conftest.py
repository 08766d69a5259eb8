"""Registries that the tests of this room change."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from tasks.register.own import OwnStore
from tasks.register.registry import CANDIDATE
from tasks.workspace import Workspace
from tests.model.conftest import bundle, photo, several  # noqa: F401

Fill = Callable[[MlflowClient, str, int], None]


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow's as it makes one, which takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_registered_models()
    return path


@pytest.fixture
def client(workspace: Workspace, empty_store: Path) -> MlflowClient:
    """A client of the workspace's own store."""
    workspace.mlruns.mkdir()
    shutil.copyfile(empty_store, workspace.mlruns / "mlflow.db")
    return MlflowClient(workspace.tracking_uri)


class Light:
    """A workspace's own store by its rows, and by MLflow what only tests ask of it."""

    def __init__(self, own: OwnStore, mlflow: MlflowClient) -> None:
        self._own, self._mlflow = own, mlflow

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own if hasattr(self._own, name) else self._mlflow, name)

    def create_model_version(self, *what: Any, **more: Any) -> Any:
        return (self._own if len(what) == 2 and "tags" in more else self._mlflow).create_model_version(*what, **more)


def own_store(workspace: Workspace) -> OwnStore:
    return OwnStore(workspace.mlruns / "mlflow.db", workspace.tracking_uri, patience=60)


@pytest.fixture(params=["by MLflow", "by its rows"])
def either(request: pytest.FixtureRequest, client: MlflowClient, workspace: Workspace) -> MlflowClient:
    """The workspace's own store, in each of the two ways in which an alias is moved there."""
    rows = cast(MlflowClient, Light(own_store(workspace), client))
    return client if request.param == "by MLflow" else rows


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """Registers a model with some versions that have files and no verdict to wait for."""

    def register(client: MlflowClient, name: str, versions: int) -> None:
        client.create_registered_model(name)
        for number in range(1, versions + 1):
            folder = tmp_path / "files" / name / str(number)
            folder.mkdir(parents=True)
            for file in ("MLmodel", "classifier.json", "backbone.safetensors", "head.safetensors"):
                (folder / file).touch()
            client.create_model_version(name, folder.as_uri(), tags={CANDIDATE: str(number), "verdict": "held back"})

    return register


class Elsewhere(LocalArtifactRepository):
    """A folder as if it were a bucket: what lies there is only to be had as a copy."""

    def __init__(self, artifact_uri: str, *more: Any, **named: Any) -> None:
        super().__init__(artifact_uri.replace("elsewhere:", "file:"), *more, **named)

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        return ArtifactRepository.download_artifacts(self, artifact_path, dst_path)  # type: ignore[no-any-return]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a folder on no disk of this machine's, as far as MLflow knows."""
    monkeypatch.setitem(_artifact_repository_registry._registry, "elsewhere", Elsewhere)
    return f"elsewhere:{tmp_path}/elsewhere"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, which holds nothing yet."""
    (folder := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def server(client: MlflowClient, workspace: Workspace, tmp_path: Path) -> Iterator[str]:
    """A server of MLflow's before the workspace's store."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", workspace.tracking_uri,
        "--artifacts-destination", str(tmp_path / "artifacts"), "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1",
    ]  # fmt: skip
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/health", process)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_for(address: str, process: subprocess.Popen[bytes], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(address, timeout=2).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError(f"{address} never answered")
