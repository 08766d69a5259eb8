"""Fixtures that several rooms of the tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.workspace import Workspace

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of real photos and weights run wherever these are; a clone without them passes the rest."""
    if SHARED.is_dir():
        return
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(pytest.mark.skip(reason="../shared is not there"))


@pytest.fixture
def shared() -> Path:
    """Folder of real images and weights beside the clone."""
    return SHARED


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty workspace of its own."""
    root = tmp_path / "workspace"
    root.mkdir()
    monkeypatch.setenv("HEADSTART_WORKSPACE", str(root))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Workspace.find()


@pytest.fixture(autouse=True, scope="session")
def _nothing_phones_home() -> None:
    for name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "DVC_NO_ANALYTICS"):
        os.environ[name] = "true"
