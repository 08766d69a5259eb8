"""Git and DVC leave alone what headstart leaves in a workspace, wherever the repository begins."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tasks.ingest.ignored import leave_out
from tasks.workspace import Workspace
from tests.ingest.versions import NEW, OLD, check_out, dvc

OURS = "/data\n/mlruns/\n/.headstart/\n"


def git(folder: Path, *arguments: str) -> list[str]:
    command = ["git", "-c", "core.quotePath=off", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, OURS),
        (b"", OURS),
        (b"x\n", f"x\n{OURS}"),
        (b"x", f"x\n{OURS}"),
        (OURS.encode(), OURS),
        (b"/database\n", f"/database\n{OURS}"),
        (b"mlruns\n.headstart/\n/data", "mlruns\n.headstart/\n/data"),
        (b"!/mlruns/\n", "!/mlruns/\n/data\n/.headstart/\n"),
        (b"x\r\n/data\r\n", "x\r\n/data\r\n/mlruns/\r\n/.headstart/\r\n"),
        (b"\xe4\n", b"\xe4\n" + OURS.encode()),
    ],
)
def test_what_the_ignore_files_lack_is_added_once(before: bytes | None, after: str | bytes, empty: Workspace) -> None:
    (empty.root / ".git").mkdir()
    ignore = empty.root / ".gitignore"
    if before is not None:
        ignore.write_bytes(before)
        ignore.chmod(0o640)
    for contents in (OLD, NEW):
        check_out(contents, empty)
    assert ignore.read_bytes() == (after if isinstance(after, bytes) else after.encode())
    assert before is None or ignore.stat().st_mode & 0o777 == 0o640
    assert (empty.root / ".dvcignore").read_text().endswith("\n/mlruns/\n/.headstart/\n")


def test_without_git_no_gitignore_is_written(empty: Workspace) -> None:
    check_out(OLD, empty)
    assert not (empty.root / ".gitignore").exists()


def test_an_ignore_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("mine\n")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", killed)
        leave_out(Workspace(tmp_path))
    assert {path.name: path.is_file() and path.read_text() for path in tmp_path.iterdir()} == {
        ".git": False, ".gitignore": "mine\n",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("made_by", ["headstart", "dvc init --subdir", "dvc init above"])
def test_in_a_subfolder_of_a_repository_git_sees_neither_images_nor_the_store(tmp_path: Path, made_by: str) -> None:
    git(tmp_path, "init", "--quiet")
    root = tmp_path / "team" / "photos"
    root.mkdir(parents=True)
    if made_by != "headstart":
        dvc(*((root, "init", "--quiet", "--subdir") if "subdir" in made_by else (tmp_path, "init", "--quiet")))
    workspace = Workspace(root)
    for folder in (workspace.mlruns, workspace.cache):
        folder.mkdir()
        (folder / "left behind").touch()
    check_out(OLD, workspace)
    seen = {line[3:] for line in git(root, "status", "--porcelain", "--untracked-files=all")}
    assert {name for name in seen if not name.startswith("team/") and not name.startswith(".dvc")} == set()
    assert {name.removeprefix("team/photos/") for name in seen if name.startswith("team/")} == {
        ".gitignore", "data.dvc", ".dvc/config", ".dvc/.gitignore", ".dvcignore",
    }  # fmt: skip
    assert "up to date" in dvc(root, "status")
    git(tmp_path, "add", ".")
    assert not any(name.startswith("team/photos/data/") for name in git(tmp_path, "ls-files"))


def test_dvc_leaves_its_files_among_runs_and_caches_alone(empty: Workspace) -> None:
    version = check_out(OLD, empty)
    for folder in (empty.mlruns / "artifacts" / "run" / "data", empty.cache / "datasets"):
        folder.mkdir(parents=True)
        (folder / "data.dvc").write_bytes(empty.dvc_file.read_bytes())
    dvc(empty.root, "checkout")
    assert "up to date" in dvc(empty.root, "status") and version.files == 4
    left = {name for folder in (empty.mlruns, empty.cache) for _, _, names in os.walk(folder) for name in names}
    assert {name for name in left if not name.endswith(".lock")} == {"data.dvc"}
