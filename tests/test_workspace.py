"""Files and folders that others find whole or not at all, whoever writes them at the same time."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tasks.errors import ConfigurationError
from tasks.workspace import Workspace, absolute_url, check_output, sqlite_file, write_whole


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


@pytest.mark.parametrize(
    ("named", "whole"),
    [
        ("sqlite:///mlruns/mlflow.db", "sqlite:///HERE/mlruns/mlflow.db"),
        ("sqlite+pysqlite:///a.db?timeout=9", "sqlite+pysqlite:///HERE/a.db?timeout=9"),
        ("sqlite:///file:b%3F.db?mode=ro&uri=true", "sqlite:///file:QUOTED%2Fb%3F.db?mode=ro&uri=true"),
        *((same, same) for same in ("sqlite:////srv/a.db", "sqlite:///file:%2Fsrv%2Fa.db?uri=true", "sqlite:///:memory:",
                                    "http://host", "postgresql://host/db", "sqlite://")),
    ],
)  # fmt: skip
def test_a_relative_store_is_named_as_it_is_in_every_folder(
    named: str, whole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_url(named) == whole.replace("HERE", str(tmp_path)).replace("QUOTED", quote(str(tmp_path), safe=""))
    (tmp_path / "a?b").mkdir()
    monkeypatch.chdir(tmp_path / "a?b")
    if (file := sqlite_file(named)) and file.is_relative_to(tmp_path):
        assert sqlite_file(absolute_url(named)) == file


def test_a_folder_that_cannot_be_written_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_output(tmp_path / "new.csv", [".csv"])
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(ConfigurationError, match=r"cannot be written: name another place for new\.csv with -o"):
        check_output(tmp_path / "new.csv", [".csv"])
