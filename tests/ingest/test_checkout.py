"""``data/`` holds a version, whatever was there before, and nothing of the user's is lost."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.errors import DataError
from tasks.ingest import checkout, leftovers
from tasks.ingest.checkout import DamagedObject, restore_version
from tasks.ingest.objects import object_path
from tasks.ingest.pointer import current_version
from tasks.ingest.repository import object_store
from tasks.workspace import Workspace
from tests.ingest.versions import NEW, OLD, check_out, configure, damage, dvc, edit, files, told, version_of


def test_check_out_makes_data_hold_the_version_and_nothing_else(empty: Workspace) -> None:
    for contents in (OLD, NEW, OLD, {"a": b"was a folder"}, {"a/b/c": b"was a file"}, NEW):
        version = check_out(contents, empty)
        assert files(empty.data) == contents
        assert (current_version(empty), version.files) == (version.name, len(contents))
        assert version.size == sum(map(len, contents.values()))
        assert not [path for path in empty.data.rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_files_in_data_are_the_users_to_edit_and_the_store_does_not_notice(empty: Workspace) -> None:
    version = check_out(OLD, empty)
    for path, content in OLD.items():
        stored = object_path(object_store(empty), hashlib.md5(content).hexdigest())
        assert not os.path.samefile(empty.data / path, stored)
        assert stored.stat().st_mode & 0o777 == 0o444 and (empty.data / path).stat().st_mode & stat.S_IWUSR
        (empty.data / path).write_bytes(b"edited in place")
    lines = told(lambda: restore_version(version.name, empty))
    assert files(empty.data) == OLD | {f"{path}.edited": b"edited in place" for path in OLD}
    assert len(lines) == len(OLD)


def test_a_second_check_out_writes_nothing_and_reads_nothing(empty: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    version = check_out(OLD, empty)
    inodes = {path: (empty.data / path).stat().st_ino for path in OLD}
    for module in (checkout, leftovers):
        monkeypatch.setattr(module, "file_digest", lambda *_: pytest.fail("a file was read"))
    restore_version(version.name, empty, verify=False)
    assert {path: (empty.data / path).stat().st_ino for path in OLD} == inodes


def test_a_file_of_the_same_content_and_another_time_is_taken_for_what_it_is(empty: Workspace) -> None:
    check_out(OLD, empty)
    os.utime(empty.data / "a/1", (1, 1))
    inode = (empty.data / "a/1").stat().st_ino
    assert told(lambda: check_out(OLD, empty)) == []
    assert files(empty.data) == OLD and (empty.data / "a/1").stat().st_ino == inode


@pytest.mark.parametrize("link", ["hardlink", "symlink"])
def test_links_that_the_user_asked_dvc_for_are_made(link: str, empty: Workspace) -> None:
    configure(empty, cache={"type": link})
    check_out(OLD, empty)
    for path, content in OLD.items():
        stored = object_path(object_store(empty), hashlib.md5(content).hexdigest())
        assert os.path.samefile(empty.data / path, stored)
        assert (empty.data / path).is_symlink() == (link == "symlink")
    assert told(lambda: check_out(NEW, empty)) == []
    assert files(empty.data) == NEW
    assert "up to date" in dvc(empty.root, "status")


def test_hard_links_of_an_earlier_headstart_become_files_of_their_own(empty: Workspace) -> None:
    configure(empty, cache={"type": "hardlink"})
    version = check_out(OLD, empty)
    configure(empty, cache={"type": "reflink,hardlink,copy"})  # as it was written
    lines = told(lambda: restore_version(version.name, empty))
    assert [line for line in lines if "cache.type in .dvc/config is reflink,copy now" in line] == lines
    assert "cache.type=reflink,copy" in dvc(empty.root, "config", "--list").split()
    assert files(empty.data) == OLD
    assert {(empty.data / path).stat().st_nlink for path in OLD} == {1}
    dvc(empty.root, "checkout", "--relink")
    assert {(empty.data / path).stat().st_nlink for path in OLD} == {1}


def test_where_the_file_system_has_no_links_files_are_copied(empty: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def refuse(*names: str) -> None:
        tried.append(names)
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    configure(empty, cache={"type": "hardlink"})
    monkeypatch.setitem(checkout._LINK, "hardlink", refuse)
    check_out(OLD, empty)
    assert files(empty.data) == OLD and len(tried) == 1
    assert told(lambda: check_out(NEW, empty)) == []
    assert files(empty.data) == NEW


@pytest.mark.parametrize("contents", [OLD, NEW], ids=["same version", "another version"])
def test_edited_file_is_kept_beside_and_said(contents: dict[str, bytes], empty: Workspace) -> None:
    check_out(OLD, empty)
    edit(empty.data / "a/1", b"my edit")
    lines = told(lambda: check_out(contents, empty))
    assert files(empty.data) == {**contents, "a/1.edited": b"my edit"}
    assert [line for line in lines if "a/1 was edited; the edit is kept as" in line]


def test_no_edit_overwrites_an_earlier_one(empty: Workspace) -> None:
    for number in range(3):
        check_out(OLD, empty)
        edit(empty.data / "a/1", f"edit {number}".encode())
    check_out(OLD, empty)
    edits = {"a/1.edited": b"edit 0", "a/1.edited.2": b"edit 1", "a/1.edited.3": b"edit 2"}
    assert files(empty.data) == OLD | edits


@pytest.mark.parametrize("name", ["l" * 255, "é" * 127])
def test_an_edit_of_the_longest_name_is_kept_too(name: str, empty: Workspace) -> None:
    for number in range(2):
        check_out({name: b"one"}, empty)
        edit(empty.data / name, f"edit {number}".encode())
    check_out({name: b"one"}, empty)
    assert sorted(files(empty.data).values()) == [b"edit 0", b"edit 1", b"one"]
    assert files(empty.data)[name] == b"one"


def test_an_edit_that_swaps_two_files_is_kept(empty: Workspace) -> None:
    check_out(OLD, empty)
    edit(empty.data / "a/1", b"two")  # a content of the store, but not of this path
    check_out(OLD, empty)
    assert files(empty.data) == OLD | {"a/1.edited": b"two"}


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


def test_write_protected_files_of_the_users_stay(empty: Workspace) -> None:
    """As they come from a camera card, a read-only disk, git-annex."""
    mine = {"raw/camera.txt": b"precious", "a/2": b"mine, where the version has one", "b/c/x.png": b"mine"}
    for name, content in mine.items():
        (empty.data / name).parent.mkdir(parents=True, exist_ok=True)
        (empty.data / name).write_bytes(content)
        (empty.data / name).chmod(0o444)
    check_out(OLD, empty)
    check_out(NEW, empty)
    kept = {"raw/camera.txt": b"precious", "a/2.edited": b"mine, where the version has one", "b/c/x.png": b"mine"}
    assert files(empty.data) == NEW | kept
    assert (empty.data / "raw/camera.txt").stat().st_mode & 0o777 == 0o444


def test_what_the_user_copied_out_of_data_stays(empty: Workspace) -> None:
    check_out(OLD, empty)
    shutil.copytree(empty.data / "a", empty.data / "picked")
    os.link(empty.data / "top", empty.data / "picked/link")
    check_out(NEW, empty)
    assert files(empty.data) == NEW | {"picked/1": b"one", "picked/2": b"two", "picked/link": b"top"}


def test_folders_of_the_users_stay_even_if_they_are_empty(empty: Workspace) -> None:
    check_out(OLD, empty)
    (empty.data / "mine/empty").mkdir(parents=True)
    check_out(NEW, empty)
    assert (empty.data / "mine/empty").is_dir() and not (empty.data / "b/c").exists()


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "mine").write_bytes(b"mine")


def _link(path: Path) -> None:
    (path.parent.parent / "elsewhere").mkdir(exist_ok=True)
    path.symlink_to("../elsewhere")


@pytest.mark.parametrize("make", [_folder, _link, lambda path: path.write_bytes(b"mine"), os.mkfifo])
@pytest.mark.parametrize("name", ["top", "b"], ids=["where a file goes", "where a folder goes"])
def test_what_stands_in_the_way_is_kept_beside(name: str, make: Callable[[Path], None], empty: Workspace) -> None:
    empty.data.mkdir()
    make(empty.data / name)
    kind = stat.S_IFMT((empty.data / name).lstat().st_mode)
    lines = told(lambda: check_out(OLD, empty))
    if name == "b" and make is _folder:  # the version's files go beside those that are there
        assert files(empty.data) == OLD | {"b/mine": b"mine"} and lines == []
        return
    kept = empty.data / f"{name}.edited"
    assert stat.S_IFMT(kept.lstat().st_mode) == kind and str(kept) in lines[0]
    for path, content in OLD.items():
        assert (empty.data / path).read_bytes() == content
    assert not (empty.root / "elsewhere").exists() or not any((empty.root / "elsewhere").iterdir())


def test_names_that_differ_in_case_only_are_files_of_their_own(empty: Workspace) -> None:
    empty.data.mkdir()
    (empty.data / "TOP").write_bytes(b"mine")
    if (empty.data / "top").exists():
        pytest.skip("this file system does not tell cases apart")
    check_out({"top": b"1", "Top": b"2"}, empty)
    assert files(empty.data) == {"TOP": b"mine", "top": b"1", "Top": b"2"}


def test_data_may_be_a_link_to_a_folder_on_another_disk(empty: Workspace, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/mine").write_bytes(b"mine")
    empty.data.symlink_to(tmp_path / "disk")
    for contents in (OLD, NEW):
        check_out(contents, empty)
        assert files(tmp_path / "disk") == contents | {"mine": b"mine"}
    assert empty.data.is_symlink()


@pytest.mark.parametrize("make", [lambda path: path.write_bytes(b"mine"), lambda path: path.symlink_to("nowhere")])
def test_data_that_is_no_folder_is_a_data_error(make: Callable[[Path], None], empty: Workspace) -> None:
    make(empty.data)
    with pytest.raises(DataError, match="HEADSTART_WORKSPACE"):
        check_out(OLD, empty)
    assert os.path.lexists(empty.data) and not empty.dvc_file.exists()


def test_a_file_that_nobody_may_read_or_that_is_large_is_left_alone_unread(
    empty: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_out(OLD, empty)
    with (empty.data / "film").open("wb") as film:
        film.truncate(2**40)
    monkeypatch.setattr(leftovers, "file_digest", lambda path, _: pytest.fail(f"{path} was read"))
    check_out(OLD, empty)
    assert (empty.data / "film").stat().st_size == 2**40


@pytest.mark.parametrize("link", ["copy", "hardlink"])
def test_a_damaged_object_is_never_checked_out(link: str, empty: Workspace) -> None:
    configure(empty, cache={"type": link})
    old = version_of(OLD, empty)
    check_out(NEW, empty)
    damage(empty, b"three")
    with pytest.raises(
        DataError, match=rf"1 of 4 files of version {old.name} are missing or damaged .*`headstart data pull"
    ) as caught:
        restore_version(old.name, empty)
    assert "\n" not in str(caught.value) and files(empty.data) == NEW
    damage_unseen = version_of(OLD, empty)
    damage(empty, b"three", b"threx")
    with pytest.raises(DamagedObject, match=r"b/c/3 \(content .* damaged"):
        restore_version(damage_unseen.name, empty, verify=False)
    assert not (empty.data / "b/c/3").exists()
