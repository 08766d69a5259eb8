"""Files and folders that others find whole or not at all, whoever writes them at the same time."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tasks.workspace import Workspace, write_whole


def test_two_who_write_a_file_at_once_each_write_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be threads of a process, or processes of one number in containers that share a disk."""
    path, begin = tmp_path / "lease.json", os.fdopen

    def interrupted(*args: Any) -> Any:
        monkeypatch.setattr(os, "fdopen", begin)
        write_whole(path, "the second's")
        assert path.read_text() == "the second's"
        return begin(*args)

    monkeypatch.setattr(os, "fdopen", interrupted)
    write_whole(path, "the first's")
    assert path.read_text() == "the first's" and list(tmp_path.iterdir()) == [path]


def test_of_a_file_that_cannot_be_written_nothing_stays(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        write_whole(tmp_path / "taken", "content")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_tilde_before_what_is_no_user_is_a_name(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert workspace.resolve("~nobody-of-that-name/photos") == tmp_path / "~nobody-of-that-name" / "photos"
    assert workspace.resolve("~/photos") == (Path.home() / "photos").resolve()


def test_the_variable_may_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file of variables, or a container's, no shell has replaced it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HEADSTART_WORKSPACE", "~/team")
    assert Workspace.find().root == tmp_path / "team"


def test_the_cache_of_who_has_no_home_lies_among_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    monkeypatch.setattr(Workspace, "is_writable", False)
    assert Workspace(tmp_path).cache.is_relative_to(Path(tempfile.gettempdir(), f"cache-of-{os.getuid()}"))
