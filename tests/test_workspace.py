"""Files and folders that others find whole or not at all, whoever writes them at the same time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tasks.workspace import write_whole


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
