"""The workspace as a DVC repository: made whole or not at all, and left as it is where it was there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.ingest.pointer import current_version
from tasks.ingest.repository import object_store
from tasks.progress import watched_by
from tasks.workspace import Workspace
from tests.ingest.versions import OLD, Told, check_out, dvc


def test_dvc_tells_git_what_belongs_to_the_repository(tmp_path: Path) -> None:
    def git(*arguments: str) -> list[str]:
        command = ["git", "-c", "core.quotePath=off", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()

    git("init", "--quiet")
    workspace = Workspace(tmp_path)
    check_out(OLD, workspace)
    assert sorted(git("diff", "--cached", "--name-only")) == [".dvc/.gitignore", ".dvc/config", ".dvcignore"]
    (workspace.cache).mkdir(exist_ok=True)
    assert {line[3:] for line in git("status", "--porcelain") if line.startswith("??")} == {".gitignore", "data.dvc"}
    assert not git("diff", "--name-only")
    assert "up to date" in dvc(tmp_path, "status")


def test_new_repository_phones_nowhere_and_makes_files_that_may_be_edited(empty: Workspace) -> None:
    settings = dvc(empty.root, "config", "--list").lower().splitlines()
    assert {"core.analytics=false", "core.check_update=false", "core.no_scm=true"} <= set(settings)
    assert "cache.type=reflink,copy" in settings


def test_settings_that_a_stash_took_away_come_back(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True)

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "first")
    workspace = Workspace(tmp_path)
    store = object_store(workspace)
    written = (tmp_path / ".dvc/config").read_text()
    git("stash", "--quiet")
    assert not (tmp_path / ".dvc/config").exists()
    assert object_store(workspace) == store and (tmp_path / ".dvc/config").read_text() == written


def test_repository_that_is_there_already_keeps_its_settings(tmp_path: Path) -> None:
    dvc(tmp_path, "init", "--no-scm", "--quiet")
    dvc(tmp_path, "config", "cache.dir", "elsewhere")
    before = (tmp_path / ".dvc/config").read_bytes()
    workspace = Workspace(tmp_path)
    assert object_store(workspace) == tmp_path / "elsewhere/files/md5"
    check_out(OLD, workspace)
    assert (tmp_path / ".dvc/config").read_bytes() == before
    assert "up to date" in dvc(tmp_path, "status")


def test_repository_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "rename", killed)
        object_store(Workspace(tmp_path))
    assert not (tmp_path / ".dvc").exists()
    assert object_store(Workspace(tmp_path)) == tmp_path / ".dvc/cache/files/md5"
    assert {path.name for path in tmp_path.iterdir()} <= {".dvc", ".dvcignore", ".headstart"}


def test_a_repository_that_git_refuses_is_made_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As Git sees the folders of other users: a mounted volume.
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    told = Told()
    with watched_by(told):
        version = check_out(OLD, Workspace(tmp_path))
    assert current_version(Workspace(tmp_path)) == version.name
    [line] = [line for line in told.lines if "Git does not take" in line]
    assert "dubious ownership" in line and ".dvc/config" in line


def test_a_workspace_that_was_copied_without_its_git_goes_on(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    check_out(OLD, workspace)
    shutil.rmtree(tmp_path / ".git")
    settings = (tmp_path / ".dvc/config").read_bytes()
    assert object_store(workspace) == tmp_path / ".dvc/cache/files/md5"
    check_out(OLD, workspace)
    assert (tmp_path / ".dvc/config").read_bytes() == settings and b"no_scm" not in settings
