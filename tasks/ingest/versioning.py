"""DVC names and keeps every version of the dataset."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from filelock import FileLock

from tasks.errors import DataError
from tasks.workspace import Workspace

HARDLINKS = "reflink,hardlink,copy"
"""How files in ``data/`` come from DVC's store: without a second copy wherever the file system can."""


def add_version(filled: Path, workspace: Workspace) -> tuple[str, Path]:
    """Put a filled folder in place of ``data/`` and let DVC version it.

    Returns:
        DVC's MD5 of the folder, and the folder of DVC's content-addressed store.

    Raises:
        DataError: DVC refuses; its own message says why.
    """
    with FileLock(workspace.cache / "data.lock"):
        if not (workspace.root / ".dvc").is_dir():
            has_git = (workspace.root / ".git").exists()
            _dvc(workspace, "init", "--quiet", *([] if has_git else ["--no-scm"]))
            for option, value in {
                "core.analytics": "false",
                "core.check_update": "false",
                "cache.type": HARDLINKS,
            }.items():
                _dvc(workspace, "config", option, value)
        _replace(workspace.data, filled, workspace.cache / "replaced")
        _dvc(workspace, "add", "--quiet", "data")
        return read_version(workspace), Path(_dvc(workspace, "cache", "dir")) / "files" / "md5"


def read_version(workspace: Workspace) -> str:
    """The version that ``data.dvc`` names: MD5 of the list of files, as in DVC, with its suffix ``.dir``."""
    return yaml.safe_load(workspace.dvc_file.read_text())["outs"][0]["md5"]


def _replace(target: Path, filled: Path, aside: Path) -> None:
    shutil.rmtree(aside, ignore_errors=True)
    if target.exists():
        target.replace(aside)
    filled.replace(target)
    shutil.rmtree(aside, ignore_errors=True)


def _dvc(workspace: Workspace, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    finished = subprocess.run(command, cwd=workspace.root, capture_output=True, text=True)
    if finished.returncode:
        told = finished.stderr.strip().splitlines()
        raise DataError(f"dvc {' '.join(arguments)} failed in {workspace.root}: {told[0] if told else 'no message'}")
    return finished.stdout.strip()
