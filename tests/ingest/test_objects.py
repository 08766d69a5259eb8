"""Objects of the store are whole, or are said not to be, set aside and brought back from whatever still has them."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import DataError
from tasks.ingest.checkout import restore_version
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.manifest import MANIFEST
from tasks.ingest.objects import (
    damaged_folder,
    find_faults,
    is_whole,
    keep,
    keep_file,
    object_path,
    tidy,
    waiting_room,
)  # fmt: skip
from tasks.ingest.remotes import fetch_version, push_version
from tasks.ingest.repair import find_lacking
from tasks.ingest.repository import object_store
from tasks.ingest.versioning import read_listing
from tasks.records import STORED, Dataset
from tasks.workspace import Workspace
from tests.ingest.pictures import png
from tests.ingest.versions import OLD, check_out, configure, damage, dvc, edit, files, told, version_of

PHOTO = png("object 3")


def ingested(workspace: Workspace) -> Dataset:
    """A dataset of a few images, `PHOTO` among them."""
    for number in range(12):
        path = workspace.root / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(png(f"object {number}"))
    config = {"source": {"folder": "photos"}, "split": {"val": 0.3, "test": 0.3}}
    return ingest_images(IngestConfig.model_validate(config), workspace)


def kept_aside(workspace: Workspace) -> list[bytes]:
    """Contents of the damaged objects that are kept."""
    return sorted(path.read_bytes() for path in damaged_folder(object_store(workspace)).iterdir())


def faults(workspace: Workspace) -> tuple[int, int]:
    """How many objects that some version needs are missing, and how many are damaged."""
    store = object_store(workspace)
    names = {f"{path.parent.name}{path.name}" for path in store.glob("??/*")}
    listed = {name for listing in names if listing.endswith(".dir") for name in read_listing(listing, store).values()}
    found = find_faults(names | listed, store)
    return len(found.missing), len(found.damaged)


def test_half_written_objects_are_tidied_once_nobody_can_be_at_work_on_them(empty: Workspace) -> None:
    store = object_store(empty)
    for name, age in {"old": 25 * 3600, "young": 23 * 3600}.items():
        (waiting_room(store) / name).write_bytes(b"half")
        os.utime(waiting_room(store) / name, (time.time() - age,) * 2)
    tidy(store)
    assert [path.name for path in waiting_room(store).iterdir()] == ["young"]


def test_what_is_put_into_the_store_again_replaces_what_is_damaged_there(empty: Workspace) -> None:
    store, digest = object_store(empty), hashlib.md5(b"content").hexdigest()
    first = keep(b"content", digest, store)
    assert keep(b"content", digest, store) == first and not first.mended
    for by in (b"other", b"cOntent", b""):  # of another size, and of the same
        damage(empty, b"content", by)
        again = keep(b"content", digest, store)
        assert again.mended and is_whole(digest, store)
    (empty.root / "file").write_bytes(b"content")
    damage(empty, b"content", b"last")
    assert keep_file(empty.root / "file", store) == digest and is_whole(digest, store)
    assert object_path(store, digest).stat().st_mode & 0o777 == 0o444
    assert kept_aside(empty) == [b"", b"cOntent", b"last", b"other"]


def test_listings_are_verified_as_contents_are_and_kept_while_they_are_whole(empty: Workspace) -> None:
    store, version = object_store(empty), version_of(OLD, empty)
    assert is_whole(version.name, store)
    written = object_path(store, version.name).stat().st_mtime_ns
    assert version_of(OLD, empty) == version and object_path(store, version.name).stat().st_mtime_ns == written


@pytest.mark.parametrize("forgotten", [False, True], ids=["by size and time", "by content, with .headstart deleted"])
def test_ingesting_the_intact_source_again_mends_and_says_so(forgotten: bool, empty: Workspace) -> None:
    store = ingested(empty).images
    damage(empty, PHOTO, b"x" * len(PHOTO))
    if forgotten:
        for file in empty.cache.glob("ingest.db*"):
            file.unlink()
    lines = told(lambda: ingested(empty))
    assert faults(empty) == (0, 0) and kept_aside(empty) == [b"x" * len(PHOTO)]
    [line] = [line for line in lines if "damaged files of the store, replaced from the source: 1, the first" in line]
    assert "b/3.png" in line and str(damaged_folder(store)) in line
    assert told(lambda: ingested(empty)) == [] and files(empty.data)["b/3.png"] == PHOTO


def test_damage_that_size_and_time_do_not_show_is_found_at_the_check_out_and_mended(empty: Workspace) -> None:
    dataset = ingested(empty)
    path = object_path(dataset.images, hashlib.md5(PHOTO).hexdigest())
    status = path.stat()
    damage(empty, PHOTO, b"x" * len(PHOTO))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    (empty.data / "b/3.png").unlink()
    assert ingested(empty).version == dataset.version
    assert files(empty.data)["b/3.png"] == PHOTO and faults(empty) == (0, 0)


def test_a_damaged_manifest_or_listing_is_mended_by_an_ingestion(empty: Workspace) -> None:
    dataset = ingested(empty)
    damage(empty, (empty.data / MANIFEST).read_bytes())
    listing = object_path(dataset.images, dataset.version)
    listing.chmod(0o644)
    listing.write_bytes(b"[]")
    assert ingested(empty).version == dataset.version and faults(empty) == (0, 0)


def test_pictures_edited_through_the_hard_links_of_an_earlier_headstart_leave_the_version_what_it_was(
    empty: Workspace,
) -> None:
    configure(empty, cache={"type": "hardlink"})
    version = ingested(empty).version
    configure(empty, cache={"type": "reflink,hardlink,copy"})
    (empty.data / "b/3.png").chmod(0o644)
    (empty.data / "b/3.png").write_bytes(b"edited in place")
    lines = told(lambda: ingested(empty))
    assert ingested(empty).version == version and faults(empty) == (0, 0)
    assert files(empty.data)["b/3.png"] == PHOTO and files(empty.data)["b/3.png.edited"] == b"edited in place"
    assert [line for line in lines if "replaced from the source: 1" in line]
    assert [line for line in lines if "the edit is kept as" in line]


def test_a_dataset_with_a_damaged_or_lost_object_is_not_taken_from_a_cache(empty: Workspace) -> None:
    dataset = ingested(empty)
    assert dataset.is_complete()
    photo = object_path(dataset.images, hashlib.md5(PHOTO).hexdigest())
    manifest = object_path(dataset.images, read_listing(dataset.version, dataset.images)[MANIFEST])
    listing = object_path(dataset.images, dataset.version)
    for harm in (
        lambda: damage(empty, PHOTO, b"x" * len(PHOTO)),
        photo.unlink,
        manifest.unlink,
        listing.unlink,
        (dataset.report.parent / STORED).unlink,
    ):
        harm()
        assert not dataset.is_complete()
        assert ingested(empty).is_complete() and dataset.is_complete()


@pytest.mark.slow
def test_objects_that_dvc_wrote_count(empty: Workspace) -> None:
    ingested(empty)
    object_path(object_store(empty), hashlib.md5(PHOTO).hexdigest()).unlink()
    dvc(empty.root, "add", "data")
    assert told(lambda: ingested(empty)) == [] and faults(empty) == (0, 0)


def test_what_data_still_has_is_put_back(empty: Workspace) -> None:
    version = check_out(OLD, empty)
    store, listing = object_store(empty), read_listing(version.name, object_store(empty))
    damage(empty, b"two")
    damage(empty, b"three")
    object_path(store, listing["top"]).unlink()
    edit(empty.data / "b/c/3", b"edited")
    lacking: list[str] = []
    lines = told(lambda: lacking.extend(find_lacking(set(listing.values()), listing, empty, store)))
    assert lacking == [listing["b/c/3"]] and kept_aside(empty) == [b"damaged"] * 2
    assert f"replaced from {empty.data}: 1" in lines[0] and listing["a/2"] in lines[0]
    assert "taken out of the store: 1" in lines[1] and listing["b/c/3"] in lines[1]
    assert is_whole(listing["a/2"], store) and is_whole(listing["top"], store)


def test_a_damaged_object_is_never_sent(empty: Workspace, tmp_path: Path) -> None:
    configure(empty, core={"remote": "there"}, remote={"there": {"url": str(tmp_path / "remote")}})
    version = version_of(OLD, empty)
    damage(empty, b"three", b"threx")
    with pytest.raises(DataError, match=rf"1 of 5 files of version {version.name} .* damaged, the first: ") as caught:
        push_version(version.name, empty)
    assert "\n" not in str(caught.value) and kept_aside(empty) == [b"threx"]
    assert not [path for path in (tmp_path / "remote").rglob("*") if path.is_file()]
    version_of(OLD, empty)
    assert push_version(version.name, empty)[0] == 5


def test_pulling_mends_what_is_damaged(empty: Workspace, tmp_path: Path) -> None:
    configure(empty, core={"remote": "there"}, remote={"there": {"url": str(tmp_path / "remote")}})
    version = version_of(OLD, empty)
    push_version(version.name, empty)
    listing = object_path(object_store(empty), version.name)
    listing.chmod(0o644)
    listing.write_bytes(b"[]")
    damage(empty, b"three", b"threx")
    damage(empty, b"two")
    assert fetch_version(version.name, empty) == 3
    assert faults(empty) == (0, 0) and len(kept_aside(empty)) == 3
    restore_version(version.name, empty)
    assert files(empty.data) == OLD


def test_two_who_keep_a_content_at_once_both_do(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be processes of one number, in containers that share a disk."""
    store, write = object_store(workspace), os.write
    digest = hashlib.md5(PHOTO, usedforsecurity=False).hexdigest()

    def interrupted(*args: Any) -> int:
        monkeypatch.setattr(os, "write", write)
        keep(PHOTO, digest, store)
        return write(*args)

    monkeypatch.setattr(os, "write", interrupted)
    keep(PHOTO, digest, store)
    assert is_whole(digest, store) and list(waiting_room(store).iterdir()) == []
