"""Versions are DVC's, byte for byte, and ``data/`` holds one of them whatever was there before."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tasks.errors import DataError
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.examine import waiting_room
from tasks.ingest.versioning import (
    Entry,
    Version,
    current_version,
    keep_file,
    local_versions,
    object_path,
    object_store,
    read_listing,
    read_manifest,
    restore_version,
    tidy,
    write_version,
)  # fmt: skip
from tasks.progress import watched_by
from tasks.records import Dataset
from tasks.workspace import Workspace
from tests.ingest.pictures import png

NAMES = ["plain.png", "ünï cödé.png", "🐈 ﬁ.png", "貓/🐈/x.png", "quote'\".png", "back\\slash.png", "new\nline.png",
         "tab\t.png", "a.png", "a/1.png", "a-1.png", "a b/1.png", "Z.png", "é.png", "e\u0301.png", "\x7f.png",
         "%41.png", "&<>.png", "#.png", "~.png", "l" * 251 + ".png"]  # fmt: skip
"""Names whose order and escapes differ between ways of sorting and writing."""


def dvc(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def files(folder: Path) -> dict[str, bytes]:
    """Content by path of all files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def objects(store: Path) -> dict[str, bytes]:
    """Content by name of all that a store holds."""
    return {path.parent.name + path.name: path.read_bytes() for path in store.glob("??/*")}


def out(dvc_file: Path) -> dict[str, object]:
    return yaml.safe_load(dvc_file.read_text())["outs"][0]


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Dataset]:
    """A dataset of nasty names in two classes."""
    workspace = Workspace(tmp_path_factory.mktemp("ingested"))
    for label in ("cat", "dög & cow"):
        for name in NAMES:
            path = workspace.root / "photos" / label / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(f"{label} {name}", 8))
    config = {"source": {"folder": "photos"}, "split": {"by": "stratified"}}
    return workspace, ingest_images(IngestConfig.model_validate(config), workspace)


def test_dvc_adds_the_same_version(ingested: tuple[Workspace, Dataset], tmp_path: Path) -> None:
    workspace, dataset = ingested
    shutil.copytree(workspace.data, tmp_path / "data")
    dvc(tmp_path, "init", "--no-scm")
    dvc(tmp_path, "add", "data")
    assert out(tmp_path / "data.dvc") == out(workspace.dvc_file)
    assert out(tmp_path / "data.dvc")["md5"] == dataset.version
    assert len(objects(dataset.images)) == len(NAMES) * 2 + 2
    assert objects(tmp_path / ".dvc/cache/files/md5") == objects(dataset.images)


def test_dvc_takes_the_folder_for_the_version(ingested: tuple[Workspace, Dataset]) -> None:
    workspace, _ = ingested
    assert "up to date" in dvc(workspace.root, "status")
    before = files(workspace.data)
    shutil.rmtree(workspace.data)
    assert "up to date" not in dvc(workspace.root, "status")
    dvc(workspace.root, "checkout")
    assert files(workspace.data) == before and len(before) == len(NAMES) * 2 + 1


def test_dvc_leaves_the_store_of_the_current_version_alone(ingested: tuple[Workspace, Dataset]) -> None:
    workspace, dataset = ingested
    before = objects(dataset.images)
    (waiting_room(dataset.images) / "half-written").write_bytes(b"x")
    dvc(workspace.root, "gc", "--workspace", "--force")
    assert objects(dataset.images) == before


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """An initialised workspace, to be copied: initialising takes long."""
    workspace = Workspace(tmp_path_factory.mktemp("home"))
    object_store(workspace)
    return workspace


@pytest.fixture
def empty(home: Workspace, tmp_path: Path) -> Workspace:
    """A workspace without any version."""
    shutil.copytree(home.root, tmp_path / "work")
    return Workspace(tmp_path / "work")


def version_of(contents: dict[str, bytes], workspace: Workspace) -> Version:
    """Put a version of these files into the store."""
    store = object_store(workspace)
    entries = []
    for path, content in sorted(contents.items()):
        (workspace.root / "one file").write_bytes(content)
        entries.append(Entry(path, keep_file(workspace.root / "one file", store), len(content)))
        (workspace.root / "one file").unlink()
    return write_version(entries, store)


def check_out(contents: dict[str, bytes], workspace: Workspace) -> Version:
    version = version_of(contents, workspace)
    assert restore_version(version.name, workspace) == version
    return version


OLD = {"a/1": b"one", "a/2": b"two", "b/c/3": b"three", "top": b"top"}
NEW = {"a/1": b"one", "a/2": b"changed", "b/4": b"four"}


def test_check_out_makes_data_hold_the_version_and_nothing_else(empty: Workspace) -> None:
    for contents in (OLD, NEW, OLD, {"a": b"was a folder"}, {"a/b/c": b"was a file"}, NEW):
        version = check_out(contents, empty)
        assert files(empty.data) == contents
        assert (current_version(empty), version.files) == (version.name, len(contents))
        assert version.size == sum(map(len, contents.values()))
        assert not [path for path in empty.data.rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_files_in_data_are_the_stores_own(empty: Workspace) -> None:
    store = object_store(empty)
    check_out(OLD, empty)
    for path, content in OLD.items():
        stored = object_path(store, hashlib.md5(content).hexdigest())
        assert os.path.samefile(empty.data / path, stored)
        assert stored.stat().st_mode & 0o777 == 0o444


def test_where_the_file_system_has_no_links_files_are_copied_once(
    empty: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    check_out(OLD, empty)
    inodes = {path: (empty.data / path).stat().st_ino for path in OLD}
    check_out(OLD, empty)
    assert files(empty.data) == OLD
    assert {path: (empty.data / path).stat().st_ino for path in OLD} == inodes
    check_out(NEW, empty)
    assert files(empty.data) == NEW


class Told:
    """Keeps what is told to whoever watches."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begin(self, what: str, total: int, unit: str) -> int:
        return 0

    def advance(self, bar: int, count: int) -> None:
        pass

    def end(self, bar: int) -> None:
        pass

    def tell(self, line: str) -> None:
        self.lines.append(line)


def edit(path: Path, content: bytes) -> None:
    """Save a file as editors do."""
    path.with_name("saving").write_bytes(content)
    path.with_name("saving").replace(path)


@pytest.mark.parametrize("contents", [OLD, NEW], ids=["same version", "another version"])
def test_edited_file_is_kept_beside_and_said(contents: dict[str, bytes], empty: Workspace) -> None:
    check_out(OLD, empty)
    edit(empty.data / "a/1", b"my edit")
    told = Told()
    with watched_by(told):
        check_out(contents, empty)
    assert files(empty.data) == {**contents, "a/1.edited": b"my edit"}
    assert [line for line in told.lines if "a/1 was edited; the edit is kept as" in line]


def test_files_of_the_users_own_are_left_alone(empty: Workspace) -> None:
    check_out(OLD, empty)
    mine = {"notes.txt": b"mine", "b/c/mine.png": b"mine", "d/e": b"mine"}
    for name, content in mine.items():
        (empty.data / name).parent.mkdir(exist_ok=True)
        (empty.data / name).write_bytes(content)
    (empty.data / "a/link").symlink_to("../notes.txt")
    check_out(NEW, empty)
    assert files(empty.data) == NEW | mine | {"a/link": b"mine"}
    assert (empty.data / "a/link").is_symlink()


def test_what_a_killed_check_out_left_is_finished(empty: Workspace) -> None:
    check_out(OLD, empty)
    for folder in ("", "a", "b/c", "new"):
        (empty.data / folder).mkdir(exist_ok=True)
        (empty.data / folder / ".headstart.tmp").write_bytes(b"half a copy")  # not yet write-protected
    (empty.data / "a/1").unlink()
    check_out(NEW, empty)
    assert files(empty.data) == NEW


def test_data_dvc_is_replaced_whole_or_not_at_all(empty: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    old = check_out(OLD, empty)
    before = files(empty.root)
    new = version_of(NEW, empty)
    replace = os.replace

    def killed(source: str, target: str) -> None:
        if str(target).endswith("data.dvc"):
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", killed)
        restore_version(new.name, empty)
    assert current_version(empty) == old.name and files(empty.data) == OLD
    restore_version(old.name, empty)
    after = files(empty.root)
    assert {path for path in after if not path.startswith((".dvc/", ".headstart/"))} == {
        path for path in before if not path.startswith((".dvc/", ".headstart/"))
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, "/data\n"), ("", "/data\n"), ("x\n", "x\n/data\n"), ("x", "x\n/data\n"), ("/data\n", "/data\n"),
     ("/database\n", "/database\n/data\n"), ("/data", "/data")],
)  # fmt: skip
def test_git_is_told_to_ignore_data_once(before: str | None, after: str, empty: Workspace) -> None:
    (empty.root / ".git").mkdir()
    ignore = empty.root / ".gitignore"
    if before is not None:
        ignore.write_text(before)
    for contents in (OLD, NEW):
        check_out(contents, empty)
    assert ignore.read_text() == after


def test_without_git_no_ignore_file_is_written(empty: Workspace) -> None:
    check_out(OLD, empty)
    assert not (empty.root / ".gitignore").exists()


def test_dvc_tells_git_what_belongs_to_the_repository(tmp_path: Path) -> None:
    def git(*arguments: str) -> list[str]:
        command = ["git", "-c", "core.quotePath=off", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()

    git("init", "--quiet")
    workspace = Workspace(tmp_path)
    check_out(OLD, workspace)
    assert sorted(git("diff", "--cached", "--name-only")) == [".dvc/.gitignore", ".dvc/config", ".dvcignore"]
    (workspace.cache).mkdir(exist_ok=True)
    assert {line[3:] for line in git("status", "--porcelain") if line.startswith("??")} <= {
        ".gitignore", "data.dvc", ".headstart/",
    }  # fmt: skip
    assert "up to date" in dvc(tmp_path, "status")


def test_new_repository_phones_nowhere_and_links_files(empty: Workspace) -> None:
    settings = dvc(empty.root, "config", "--list").lower().splitlines()
    assert {"core.analytics=false", "core.check_update=false", "core.no_scm=true"} <= set(settings)
    assert "cache.type=reflink,hardlink,copy" in settings


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


def test_half_written_objects_are_tidied_once_nobody_can_be_at_work_on_them(empty: Workspace) -> None:
    store = object_store(empty)
    for name, age in {"old": 25 * 3600, "young": 23 * 3600}.items():
        (waiting_room(store) / name).write_bytes(b"half")
        os.utime(waiting_room(store) / name, (time.time() - age,) * 2)
    tidy(store)
    assert [path.name for path in waiting_room(store).iterdir()] == ["young"]


def test_unknown_version_is_a_data_error_that_says_how_to_fetch_it(empty: Workspace) -> None:
    store = object_store(empty)
    with pytest.raises(DataError, match=r"version 0123456789ab\.dir .* `headstart data pull 01234567` fetches it"):
        read_listing("0123456789ab.dir", store)
    with pytest.raises(DataError, match="headstart data pull"):
        restore_version("0123456789ab.dir", empty)


def test_listing_gives_back_what_was_written(empty: Workspace) -> None:
    contents = {name: name.encode() for name in NAMES}
    version = version_of(contents, empty)
    assert read_listing(version.name, object_store(empty)) == {
        path: hashlib.md5(content).hexdigest() for path, content in contents.items()
    }
    assert version_of({}, empty).files == 0 and read_listing(version_of({}, empty).name, object_store(empty)) == {}


def test_local_versions_are_told_with_what_is_missing(empty: Workspace) -> None:
    store = object_store(empty)
    old, new = version_of(OLD, empty), version_of(NEW, empty)
    assert local_versions(empty) == {old.name: (4, True), new.name: (3, True)}
    object_path(store, hashlib.md5(b"three").hexdigest()).unlink()
    assert local_versions(empty) == {old.name: (4, False), new.name: (3, True)}


def test_version_whose_files_were_lost_is_a_data_error_and_changes_nothing(empty: Workspace) -> None:
    old = version_of(OLD, empty)
    check_out(NEW, empty)
    object_path(object_store(empty), hashlib.md5(b"three").hexdigest()).unlink()
    with pytest.raises(DataError, match=r"headstart data pull"):
        restore_version(old.name, empty)
    assert files(empty.data) == NEW


def test_folder_that_dvc_added_has_no_manifest(empty: Workspace) -> None:
    (empty.root / "data").mkdir()
    (empty.root / "data" / "1.png").write_bytes(png("1"))
    dvc(empty.root, "add", "data")
    with pytest.raises(DataError, match=r"has no manifest\.parquet: `dvc add` made it, not headstart"):
        read_manifest(str(current_version(empty)), empty)


def test_workspace_without_a_version_names_none(empty: Workspace) -> None:
    assert current_version(empty) is None
