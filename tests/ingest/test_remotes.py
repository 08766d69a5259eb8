"""Versions travel over real SSH, S3 and HTTP servers and through folders, and arrive bit for bit."""

from __future__ import annotations

import hashlib
import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest
from dvc.config import Config
from moto.server import ThreadedMotoServer
from PIL import Image

from tasks.errors import DataError
from tasks.ingest.checkout import restore_version
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.remotes import LOCAL, fetch_version, push_version
from tasks.ingest.repository import object_store
from tasks.ingest.versioning import read_listing
from tasks.records import Dataset
from tasks.workspace import Workspace


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Dataset]:
    """A workspace with a small dataset."""
    workspace = Workspace(tmp_path_factory.mktemp("original"))
    for index in range(40):
        path = workspace.root / "photos" / "ab"[index % 2] / f"{index} ü.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9), index, np.uint8)).save(path)
    config = IngestConfig.model_validate({"source": {"folder": "photos"}, "split": {"val": 0.3, "test": 0.3}})
    return workspace, ingest_images(config, workspace)


@pytest.fixture
def other(tmp_path: Path) -> Workspace:
    """Another workspace, which has nothing."""
    return Workspace(tmp_path / "other")


def configure(workspaces: list[Workspace], url: str, **options: str) -> None:
    """Name a default remote, as ``dvc remote add -d`` and ``dvc remote modify`` do."""
    for workspace in workspaces:
        object_store(workspace)
        with Config(str(workspace.root / ".dvc")).edit("local") as local:
            local["remote"] = {"there": {"url": url, **options}}
            local["core"] = {"remote": "there"}


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def travel(original: tuple[Workspace, Dataset], other: Workspace) -> None:
    """Push from one workspace, restore in the other, and compare everything."""
    workspace, dataset = original
    sent, _ = push_version(dataset.version, workspace)
    assert sent == len(set(read_listing(dataset.version, dataset.images).values())) + 1
    assert push_version(dataset.version, workspace)[0] == 0
    assert fetch_version(dataset.version, other) == sent
    assert fetch_version(dataset.version, other) == 0
    restore_version(dataset.version, other)
    assert files(other.data) == files(workspace.data)
    assert other.dvc_file.read_bytes() == workspace.dvc_file.read_bytes()


class Put(http.server.SimpleHTTPRequestHandler):
    """A web server that takes files, as DVC's HTTP remotes need one."""

    def do_PUT(self) -> None:
        path = Path(self.translate_path(self.path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._body())
        self.send_response(201)
        self.end_headers()

    def _body(self) -> bytes:
        if length := self.headers.get("Content-Length"):
            return self.rfile.read(int(length))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and folder of a web server."""
    folder = tmp_path / "web"
    folder.mkdir()
    handler = type("Handler", (Put,), {"__init__": lambda self, *a: Put.__init__(self, *a, directory=str(folder))})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/store", folder
        server.shutdown()


@pytest.fixture
def bucket() -> Iterator[dict[str, str]]:
    """Options of a remote in a bucket of moto's S3 server."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"endpointurl": f"http://{host}:{port}", "access_key_id": "id", "secret_access_key": "key"}
    client = boto3.client(
        "s3", endpoint_url=options["endpointurl"], aws_access_key_id="id", aws_secret_access_key="key",
        region_name="us-east-1",
    )  # fmt: skip
    client.create_bucket(Bucket="datasets")
    yield options
    server.stop()


def test_through_a_folder(original, other: Workspace, tmp_path: Path) -> None:
    configure([original[0], other], str(tmp_path / "store"))
    travel(original, other)


@pytest.mark.openssh
def test_over_ssh(original, other: Workspace, openssh, tmp_path: Path) -> None:
    configure([original[0], other], f"{openssh.url}{tmp_path / 'store'}", keyfile=str(openssh.key))
    travel(original, other)


@pytest.mark.slow
def test_over_s3(original, other: Workspace, bucket: dict[str, str]) -> None:
    configure([original[0], other], "s3://datasets/photos", **bucket)
    travel(original, other)


@pytest.mark.slow
def test_over_http(original, other: Workspace, web: tuple[str, Path]) -> None:
    configure([original[0], other], web[0], method="PUT")
    travel(original, other)


def test_without_a_configured_remote_a_folder_of_the_user_is_taken_for_this_clone_only(
    other: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    (other.root / "photos").mkdir(parents=True)
    dataset = ingest_images(IngestConfig(), other)
    sent, address = push_version(dataset.version, other)
    assert sent == 1799 and address == str(tmp_path / "share/headstart/remote")
    assert LOCAL in (other.root / ".dvc/config.local").read_text()
    assert LOCAL not in (other.root / ".dvc/config").read_text()
    second = Workspace(tmp_path / "second")
    assert fetch_version(dataset.version, second) == 1799


def test_a_manifest_travels_without_its_images(original, other: Workspace, tmp_path: Path) -> None:
    workspace, dataset = original
    configure([workspace, other], str(tmp_path / "store"))
    push_version(dataset.version, workspace)
    assert fetch_version(dataset.version, other, images=False) == 2
    assert fetch_version(dataset.version, other) == len(files(workspace.data)) - 1


def _spoil(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"spoilt")


def _remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("harm", [_spoil, _remove])
def test_what_the_remote_lost_or_spoilt_is_told_and_never_taken(
    original, other: Workspace, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    workspace, dataset = original
    configure([workspace, other], str(tmp_path / "store"))
    push_version(dataset.version, workspace)
    lost = dataset.read_manifest()["hash"].iloc[0]
    harm(tmp_path / "store/files/md5" / lost[:2] / lost[2:])
    with pytest.raises(DataError, match=r"does not have 1 of|could not be transferred"):
        fetch_version(dataset.version, other)
    assert not (object_store(other) / lost[:2] / lost[2:]).exists()
    shutil.copy(dataset.image(lost), tmp_path / "store/files/md5" / lost[:2] / lost[2:])
    fetch_version(dataset.version, other)
    restore_version(dataset.version, other)
    assert files(other.data) == files(workspace.data)


def test_what_the_remote_lost_is_sent_again(original, other: Workspace, tmp_path: Path) -> None:
    workspace, dataset = original
    configure([workspace, other], str(tmp_path / "store"))
    push_version(dataset.version, workspace)
    push_version(dataset.version, workspace)
    for lost in dataset.read_manifest()["hash"].iloc[:2]:
        (tmp_path / "store/files/md5" / lost[:2] / lost[2:]).unlink()
    assert push_version(dataset.version, workspace)[0] == 2
    fetch_version(dataset.version, other)
    restore_version(dataset.version, other)
    assert files(other.data) == files(workspace.data)


def test_a_remote_that_cannot_be_reached_or_is_not_there_is_one_clear_error(original, other: Workspace) -> None:
    workspace, dataset = original
    with pytest.raises(DataError, match="nowhere"):
        push_version(dataset.version, workspace, "nowhere")
    configure([other], "http://127.0.0.1:9/store")
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9/store") as caught:
        fetch_version(dataset.version, other)
    assert "\n" not in str(caught.value)


def test_a_version_that_is_not_whole_here_is_not_pushed(other: Workspace, tmp_path: Path) -> None:
    configure([other], str(tmp_path / "store"))
    dataset = ingest_images(IngestConfig(), other)
    lost = dataset.image(dataset.read_manifest()["hash"].iloc[5])
    os.unlink(lost)
    with pytest.raises(DataError, match="1 of 1,799 files"):
        push_version(dataset.version, other)
    assert not (tmp_path / "store").exists()
