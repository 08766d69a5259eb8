"""Versions are DVC's, byte for byte, and ``data/`` holds one of them whatever was there before."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from tasks.errors import DataError
from tasks.ingest.checkout import restore_version
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.objects import object_path, waiting_room
from tasks.ingest.pointer import current_version
from tasks.ingest.repository import object_store
from tasks.ingest.versioning import local_versions, read_listing, read_manifest
from tasks.records import Dataset
from tasks.workspace import Workspace
from tests.ingest.pictures import png
from tests.ingest.versions import NEW, OLD, check_out, dvc, files, objects, out, version_of

NAMES = ["plain.png", "ünï cödé.png", "🐈 ﬁ.png", "貓/🐈/x.png", "quote'\".png", "back\\slash.png", "new\nline.png",
         "tab\t.png", "a.png", "a/1.png", "a-1.png", "a b/1.png", "Z.png", "é.png", "e\u0301.png", "\x7f.png",
         "%41.png", "&<>.png", "#.png", "~.png", "l" * 251 + ".png"]  # fmt: skip
"""Names whose order and escapes differ between ways of sorting and writing."""


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
    with pytest.raises(DataError, match=r"has no manifest\.csv: `dvc add` made it, not headstart"):
        read_manifest(str(current_version(empty)), empty)


def test_workspace_without_a_version_names_none(empty: Workspace) -> None:
    assert current_version(empty) is None


def test_a_damaged_listing_is_a_data_error_that_says_what_mends_it_and_others_are_listed(empty: Workspace) -> None:
    old, new = version_of(OLD, empty), version_of(NEW, empty)
    path = object_path(object_store(empty), old.name)
    for content in (b"", b"[{", path.read_bytes().replace(b"a/1", b"a/7")):
        path.chmod(0o644)
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"listing of version {old.name} is damaged .*`headstart data pull"):
            read_listing(old.name, object_store(empty))
        assert local_versions(empty) == {old.name: (None, False), new.name: (3, True)}
    assert version_of(OLD, empty) == old  # ingesting the source again
    assert local_versions(empty)[old.name] == (4, True)


def test_a_damaged_manifest_is_a_data_error_that_says_what_mends_it(
    ingested: tuple[Workspace, Dataset], tmp_path: Path
) -> None:
    shutil.copytree(ingested[0].root, tmp_path / "copy")
    workspace, version = Workspace(tmp_path / "copy"), ingested[1].version
    assert len(read_manifest(version, workspace)) == 2 * len(NAMES)
    path = object_path(object_store(workspace), read_listing(version, object_store(workspace))["manifest.csv"])
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=rf"manifest of version {version} is damaged .*`headstart data pull"):
        read_manifest(version, workspace)
