"""Fixtures of the tests of ingestion."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tasks.ingest.repository import object_store
from tasks.workspace import Workspace


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """An initialised workspace, to be copied: initialising takes long."""
    workspace = Workspace(tmp_path_factory.mktemp("home"))
    object_store(workspace)
    return workspace


@pytest.fixture
def empty(initialised: Workspace, tmp_path: Path) -> Workspace:
    """A workspace without any version."""
    shutil.copytree(initialised.root, tmp_path / "work")
    return Workspace(tmp_path / "work")
