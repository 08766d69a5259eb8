"""Sources in an object store, on a web server and in fsspec's memory are read as folders on disk are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import fsspec
import pandas as pd
import pytest
from moto.server import ThreadedMotoServer

from tasks.errors import DataError, TooLarge
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.sources import Item, read_source
from tasks.ingest.storage import read
from tasks.workspace import Workspace
from tests.ingest.pictures import png, tarred, zipped
from tests.ingest.serving import served

PHOTOS = {f"{'ab'[index % 2]}/{index:02d}.png": png(f"stored {index}") for index in range(24)}
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


def items(source: dict[str, Any], workspace: Workspace) -> list[Item]:
    return list(read_source(source).items(workspace))


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A client of an S3 server on this machine, which has the photos in a bucket."""
    with pytest.MonkeyPatch.context() as environment:
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
            environment.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        for name, content in PHOTOS.items():
            client.put_object(Bucket="bucket", Key=f"photos/{name}", Body=content)
        for name in ("photos/", "photos/a/", "photos/.git/1", "photos/.git/2"):  # placeholders of folders, and clutter
            client.put_object(Bucket="bucket", Key=name, Body=b"")
        client.put_object(Bucket="bucket", Key="photos.zip", Body=zipped(PHOTOS))
        for number in range(2):
            sample = {f"{number}.png": png(f"{number}"), f"{number}.cls": b"cat"}
            client.put_object(Bucket="bucket", Key=f"shards/train-{number}.tar", Body=tarred(sample))
        yield client
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        server.stop()


@pytest.mark.slow
def test_folder_in_a_bucket_becomes_the_dataset_of_the_folder_on_disk(s3: Any, workspace: Workspace) -> None:
    for name, content in PHOTOS.items():
        (workspace.root / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace.root / "photos" / name).write_bytes(content)
    remote, local = (
        ingest_images(IngestConfig.model_validate({"source": {"folder": name}}), workspace, into_data=False)
        for name in ("s3://bucket/photos", "photos")
    )
    assert (remote.version, remote.counts, remote.source) == (local.version, local.counts, "folder:s3://bucket/photos")
    assert pd.read_csv(remote.report / "quarantine.csv")[["path", "kind"]].values.tolist() == [[".git", "hidden"]]


def test_objects_come_in_order_with_their_tags(s3: Any, workspace: Workspace) -> None:
    found = items({"folder": "s3://bucket/photos"}, workspace)
    assert [item.path for item in found if not item.problem] == sorted(PHOTOS)
    tags = {entry["Key"]: entry["ETag"] for entry in s3.list_objects_v2(Bucket="bucket")["Contents"]}
    for item in found:
        if not item.problem:
            assert item.place == f"s3://bucket/photos/{item.path}"
            assert item.stamp == f"{len(PHOTOS[item.path])}-{tags[f'photos/{item.path}']}"


def test_archive_and_shards_in_a_bucket_are_read(s3: Any, workspace: Workspace) -> None:
    found = items({"archive": "s3://bucket/photos.zip"}, workspace)
    assert {item.path: item.content for item in found} == PHOTOS
    shards = items({"webdataset": "s3://bucket/shards/train-*.tar"}, workspace)
    assert [(item.path, item.labels, item.split) for item in shards] == [
        ("train-0/0.png", ("cat",), "train"), ("train-1/1.png", ("cat",), "train")
    ]  # fmt: skip


@pytest.mark.parametrize("source", [{"folder": "s3://bucket/changing"}, {"archive": "s3://bucket/changing/a.tar"}])
def test_state_sees_what_others_put_into_the_bucket(source: dict[str, str], s3: Any, workspace: Workspace) -> None:
    states = []
    for content in (b"1", b"2", b"22"):
        s3.put_object(Bucket="bucket", Key="changing/a.tar", Body=content)
        states.append(read_source(source).state(workspace))
        assert read_source(source).state(workspace) == states[-1]
    assert len(set(states)) == 3


@pytest.mark.parametrize("name", ["s3://bucket/nowhere", "s3://nobodys-bucket/photos"])
@pytest.mark.parametrize("kind", ["folder", "archive", "table"])
def test_missing_object_is_a_data_error_that_names_it(kind: str, name: str, s3: Any, workspace: Workspace) -> None:
    with pytest.raises(DataError, match=f"{name} cannot be read: .*credentials"):
        items({kind: name}, workspace)


def test_folder_that_fails_halfway_is_a_data_error_not_a_smaller_dataset(
    s3: Any, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = fsspec.filesystem("s3")
    listing = files.ls

    def refuse(path: str, **options: Any) -> Any:
        if path.endswith("/b"):
            raise PermissionError("Access Denied")
        return listing(path, **options)

    monkeypatch.setattr(files, "ls", refuse)
    with pytest.raises(DataError, match="Access Denied"):
        items({"folder": "s3://bucket/photos"}, workspace)


def test_object_beyond_the_limit_is_not_read_whole(s3: Any) -> None:
    name, content = next(iter(PHOTOS.items()))
    assert read(f"s3://bucket/photos/{name}", len(content)) == content
    with pytest.raises(TooLarge, match=f"more than {len(content) - 1:,} bytes"):
        read(f"s3://bucket/photos/{name}", len(content) - 1)


def test_file_that_grows_while_it_is_read_is_limited_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "growing"
    file.write_bytes(bytes(1000))
    monkeypatch.setattr(os, "fstat", lambda _: SimpleNamespace(st_mode=file.stat().st_mode, st_size=10))
    assert len(read(str(file), 1000)) == 1000
    with pytest.raises(TooLarge):
        read(str(file), 999)


def test_folder_in_memory_is_read_and_its_state_changes(workspace: Workspace) -> None:
    files = fsspec.filesystem("memory")
    files.pipe({"/photos/a/1.png": b"12", "/photos/b/c/2.png": b"123", "/photos/__MACOSX/3.png": b""})
    source = read_source({"folder": "memory://photos"})
    found = list(source.items(workspace))
    assert [(item.path, bool(item.problem)) for item in found] == [
        ("__MACOSX", True), ("a/1.png", False), ("b/c/2.png", False)
    ]  # fmt: skip
    assert [read(str(item.place), 10) for item in found[1:]] == [b"12", b"123"]
    before = source.state(workspace)
    files.pipe("/photos/a/1.png", b"1234")
    assert source.state(workspace) != before
    files.rm("/photos", recursive=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a web server that lists its folders."""
    for name in list(PHOTOS)[:4]:
        (tmp_path / "site" / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / "photos" / name).write_bytes(PHOTOS[name])
    for name, content in {"a.zip": zipped(PHOTOS), "a.tar": tarred(PHOTOS)}.items():
        (tmp_path / "site" / name).write_bytes(content)
    with served(tmp_path / "site") as url:
        yield url


def test_folder_of_a_web_server_is_read_in_order(server: str, workspace: Workspace) -> None:
    found = items({"folder": f"{server}/photos"}, workspace)
    assert [item.path for item in found] == sorted(list(PHOTOS)[:4])
    assert [read(str(item.place), 10**6) for item in found] == [PHOTOS[item.path] for item in found]


def test_files_whose_changes_nobody_tells_have_no_stamp(server: str, workspace: Workspace) -> None:
    """They are read again each time: a web server's listing has neither sizes nor times."""
    assert {item.stamp for item in items({"folder": f"{server}/photos"}, workspace)} == {None}


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_archive_of_a_web_server_is_read_and_its_state_changes(
    name: str, server: str, tmp_path: Path, workspace: Workspace
) -> None:
    source = read_source({"archive": f"{server}/{name}"})
    assert {item.path: item.content for item in source.items(workspace)} == PHOTOS
    before = source.state(workspace)
    os.utime(tmp_path / "site" / name, (1, 1))
    assert source.state(workspace) != before


def test_server_that_does_not_answer_is_a_data_error(workspace: Workspace) -> None:
    for kind in ("folder", "archive", "table"):
        with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/x cannot be read"):
            items({kind: "http://127.0.0.1:9/x"}, workspace)
