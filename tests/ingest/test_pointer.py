"""``data.dvc`` names the version, and is never taken from the user."""

from __future__ import annotations

import os
import shutil

import pytest
import yaml

from flows.commands.versions import resolve
from tasks.errors import ConfigurationError, DataError
from tasks.ingest.checkout import restore_version
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.pointer import claim, current_version
from tasks.workspace import Workspace
from tests.ingest.pictures import png
from tests.ingest.versions import NEW, OLD, check_out, dvc, files, version_of


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


def photos(workspace: Workspace) -> IngestConfig:
    """A source of a few images."""
    for number in range(8):
        path = workspace.root / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(f"pointer {number}"))
    return IngestConfig.model_validate({"source": {"folder": "photos"}, "split": {"val": 0.3, "test": 0.3}})


def add(workspace: Workspace) -> bytes:
    """Have the user version a folder of their own with DVC; returns their ``data.dvc``."""
    (workspace.data / "raw").mkdir(parents=True)
    (workspace.data / "raw/mine.txt").write_bytes(b"mine")
    dvc(workspace.root, "add", "data")
    return workspace.dvc_file.read_bytes()


def test_a_data_dvc_of_the_users_stops_an_ingestion_before_it_begins(empty: Workspace) -> None:
    theirs = add(empty)
    with pytest.raises(ConfigurationError, match=r"HEADSTART_WORKSPACE.*--replace") as caught:
        ingest_images(IngestConfig.model_validate({"source": {"folder": "not even there"}}), empty)
    assert "\n" not in str(caught.value)
    assert empty.dvc_file.read_bytes() == theirs and files(empty.data) == {"raw/mine.txt": b"mine"}


def test_a_data_dvc_of_the_users_stops_a_check_out(empty: Workspace) -> None:
    version, theirs = version_of(OLD, empty), add(empty)
    with pytest.raises(ConfigurationError, match="--replace"):
        restore_version(version.name, empty)
    assert empty.dvc_file.read_bytes() == theirs and files(empty.data) == {"raw/mine.txt": b"mine"}


def test_what_leaves_data_alone_does_not_ask_whose_it_is(empty: Workspace) -> None:
    theirs = add(empty)
    assert ingest_images(photos(empty), empty, into_data=False).counts["train"]
    assert empty.dvc_file.read_bytes() == theirs


def test_replacing_keeps_the_users_data_dvc_and_dvc_brings_their_files_back(empty: Workspace) -> None:
    theirs = add(empty)
    kept = claim(empty, replace=True)
    assert kept == empty.root / "data.dvc.replaced" and kept.read_bytes() == theirs
    dataset = ingest_images(photos(empty), empty)
    assert current_version(empty) == dataset.version and not (empty.data / "raw").exists()
    assert claim(empty, replace=True) is None  # ours now
    shutil.copy(kept, empty.dvc_file)
    with pytest.raises(ConfigurationError):
        claim(empty)
    dvc(empty.root, "checkout", "--force")
    assert files(empty.data) == {"raw/mine.txt": b"mine"}
    assert claim(empty, replace=True) == empty.root / "data.dvc.replaced.2"


@pytest.mark.slow
def test_what_dvc_added_after_an_edit_is_the_users(empty: Workspace) -> None:
    dataset = ingest_images(photos(empty), empty)
    assert claim(empty) is None
    dvc(empty.root, "add", "data")  # nothing was edited
    assert claim(empty) is None
    edited = next(path for path in empty.data.rglob("*.png"))
    edited.write_bytes(png("edited"))
    dvc(empty.root, "add", "data")
    assert yaml.safe_load(empty.dvc_file.read_text())["meta"] == {"headstart": dataset.version}  # as DVC keeps it
    with pytest.raises(ConfigurationError, match="--replace"):
        claim(empty)


def test_a_data_dvc_of_an_earlier_headstart_is_known_by_its_manifest(empty: Workspace) -> None:
    dataset = ingest_images(photos(empty), empty)
    told = yaml.safe_load(empty.dvc_file.read_text())
    del told["meta"]
    empty.dvc_file.write_text(yaml.safe_dump(told))
    assert claim(empty) is None
    check_out(OLD, empty)
    empty.dvc_file.write_text(yaml.safe_dump(told))
    shutil.rmtree(dataset.images)  # a fresh clone: nothing can tell
    with pytest.raises(ConfigurationError, match="headstart data pull"):
        claim(empty)


def test_a_fresh_clone_of_a_project_is_not_asked(empty: Workspace) -> None:
    ingest_images(photos(empty), empty)
    committed = empty.dvc_file.read_bytes()
    for folder in (empty.data, empty.root / ".dvc/cache", empty.cache):
        shutil.rmtree(folder)
    ingest_images(photos(empty), empty)
    assert empty.dvc_file.read_bytes() == committed


@pytest.mark.parametrize(
    "text",
    ["outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  path: data\n- md5: 0123\n  path: more\n",
     "outs:\n- md5: 0123456789abcdef0123456789abcdef\n  path: images.zip\n",
     "deps:\n- path: data\n  repo: {url: there}\nouts:\n- md5: 0123.dir\n  path: data\nmeta: {headstart: 0123.dir}\n",
     "outs: 3\n"],
    ids=["two outputs", "a file", "imported", "nonsense"],
)  # fmt: skip
def test_whatever_else_a_data_dvc_says_it_is_the_users(text: str, empty: Workspace) -> None:
    empty.dvc_file.write_text(text, "latin-1")
    with pytest.raises(ConfigurationError, match="is yours and stays"):
        claim(empty)
    assert claim(empty, replace=True) == empty.root / "data.dvc.replaced"
    assert (empty.root / "data.dvc.replaced").read_text("latin-1") == text


def test_what_users_write_into_data_dvc_stays_in_it(empty: Workspace) -> None:
    check_out(OLD, empty)
    told = yaml.safe_load(empty.dvc_file.read_text())
    told["outs"][0] |= {"remote": "team", "desc": "digits"}
    told |= {"desc": "ünï", "meta": {**told["meta"], "owner": "me"}}
    empty.dvc_file.write_text(yaml.safe_dump(told))
    version = check_out(NEW, empty)
    after = yaml.safe_load(empty.dvc_file.read_text())
    assert (after["outs"][0]["remote"], after["outs"][0]["desc"], after["desc"]) == ("team", "digits", "ünï")
    assert after["meta"] == {"owner": "me", "headstart": version.name}
    dvc(empty.root, "status")


def test_the_users_own_version_can_be_restored_without_replacing_their_file(empty: Workspace) -> None:
    theirs = add(empty)
    shutil.rmtree(empty.data)
    restore_version(str(current_version(empty)), empty)
    assert files(empty.data) == {"raw/mine.txt": b"mine"} and empty.dvc_file.read_bytes() == theirs


@pytest.mark.parametrize("replace", [False, True])
def test_a_part_of_data_that_dvc_versions_already_stops_an_ingestion(replace: bool, empty: Workspace) -> None:
    (empty.data).mkdir()
    (empty.data / "raw.csv").write_bytes(b"mine")
    dvc(empty.root, "add", "data/raw.csv")
    before = files(empty.root)
    with pytest.raises(ConfigurationError, match=r"raw\.csv\.dvc versions .*HEADSTART_WORKSPACE"):
        claim(empty, replace)
    assert files(empty.root) == before


def test_an_output_of_a_stage_stops_an_ingestion(empty: Workspace) -> None:
    (empty.root / "dvc.yaml").write_text("stages:\n  make:\n    cmd: make-data\n    outs: [data]\n")
    with pytest.raises(ConfigurationError, match=r"dvc\.yaml versions"):
        claim(empty)


@pytest.mark.parametrize(
    ("text", "told"),
    [("<<<<<<< HEAD\nouts:\n=======\n>>>>>>> theirs\n", "holds the marks of a merge: take one of both"),
     ("", "is empty: restore it"), ("\n", "is empty: restore it"), ("outs: [", "is no YAML: restore it"),
     ("\xff", "is no YAML: restore it")],
    ids=["conflict", "empty", "a blank line", "cut off", "not text"],
)  # fmt: skip
def test_a_data_dvc_that_nobody_can_read_is_told_with_what_ails_it(text: str, told: str, empty: Workspace) -> None:
    empty.dvc_file.write_text(text, "latin-1")
    with pytest.raises(ConfigurationError, match=rf"data\.dvc {told} .*--replace, which keeps it"):
        claim(empty)
    with pytest.raises(DataError, match=rf"data\.dvc {told}"):
        resolve("current", empty)
    assert claim(empty, replace=True) == empty.root / "data.dvc.replaced"
    assert (empty.root / "data.dvc.replaced").read_text("latin-1") == text
