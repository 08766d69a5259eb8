"""Reading needs no permission to write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tasks.register.store import connect
from tasks.register.tags import DATA
from tasks.workspace import Workspace
from tests.disks import small_disk

ROOT = Path(__file__).parents[2]
READ_ONLY = """
set -e
mount --bind "$HEADSTART_WORKSPACE" "$HEADSTART_WORKSPACE"
mount -o remount,bind,ro "$HEADSTART_WORKSPACE"
exec "$0" -m flows.cli "$@"
"""


def on_read_only_disk(workspace: Workspace, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*small_disk(), "sh", "-c", READ_ONLY, sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"HEADSTART_WORKSPACE": str(workspace.root), "HOME": str(home), "COLUMNS": "120"},
    )  # fmt: skip


def test_models_are_listed_where_nothing_can_be_written(workspace: Workspace, tmp_path: Path) -> None:
    workspace.mlruns.mkdir()
    client = connect(workspace)
    client.create_registered_model("digits")
    client.create_model_version("digits", "file:///nowhere", tags={DATA: "1234567890abcdef.dir"})
    (home := tmp_path / "home").mkdir()
    listed = on_read_only_disk(workspace, home, "models")
    assert (listed.returncode, listed.stderr) == (0, "") and "1234567890ab" in listed.stdout
    assert list((home / ".cache" / "headstart").iterdir())
    refused = on_read_only_disk(workspace, home, "promote", "digits", "1")
    assert refused.returncode == 2 and f"{workspace.mlruns} cannot be written (Read-only file system)" in refused.stderr


def test_caches_of_a_writable_workspace_are_its_own(workspace: Workspace) -> None:
    assert workspace.cache == workspace.root / ".headstart"
