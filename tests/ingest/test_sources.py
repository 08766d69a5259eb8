"""Where images come from: folders, archives (also hostile and broken ones) and torchvision."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.errors import ConfigurationError, DataError
from tasks.ingest.config import SourceConfig
from tasks.ingest.manifest import find_images
from tasks.ingest.sources import fetch, source_state
from tasks.workspace import Workspace

NAMES = ["photos/cat/1.png", "photos/cat/2.png", "photos/dog/1.png"]


def picture(seed: int = 0, side: int = 40) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def pack(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
            for name, content in members.items():
                information = tarfile.TarInfo(name)
                information.size = len(content)
                archive.addfile(information, io.BytesIO(content))
    return path


def unpack(path: Path, workspace: Workspace, scratch: Path) -> Path:
    return fetch(SourceConfig(archive=str(path)), workspace, scratch)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("name", ["photos.tar.gz", "photos.tar", "photos.zip"])
def test_archive_is_unpacked_with_its_bytes(name: str, workspace: Workspace, tmp_path: Path) -> None:
    members = {name: picture(seed) for seed, name in enumerate(NAMES)}
    pack(workspace.root / name, members)
    root = fetch(SourceConfig(archive=name), workspace, tmp_path / "scratch")
    assert {path: (root / path).read_bytes() for path in files(root)} == members
    assert [image.label for image in find_images(root)[0]] == ["cat", "cat", "dog"]


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
@pytest.mark.parametrize("name", ["../outside.png", "cat/../../../outside.png", "ABSOLUTE/outside.png"])
def test_archive_that_would_write_outside_is_refused(
    suffix: str, name: str, workspace: Workspace, tmp_path: Path
) -> None:
    name = name.replace("ABSOLUTE", str(tmp_path / "elsewhere"))
    path = pack(tmp_path / f"hostile{suffix}", {"cat/1.png": picture(), name: picture(), "dog/1.png": picture()})
    with pytest.raises(DataError, match="hostile"):
        unpack(path, workspace, tmp_path / "deep" / "scratch")
    assert not list(tmp_path.rglob("outside.png"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["../../secret", "ABSOLUTE/secret"])
def test_link_that_leaves_the_archive_is_refused(
    kind: bytes, target: str, workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(picture())
    path = tmp_path / "hostile.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("cat/1.png")
        link.type, link.linkname = kind, target.replace("ABSOLUTE", str(tmp_path))
        archive.addfile(link)
    with pytest.raises(DataError, match="hostile"):
        unpack(path, workspace, tmp_path / "scratch")
    assert not list((tmp_path / "scratch").rglob("1.png"))


def test_link_into_a_folder_outside_cannot_be_written_through(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "hostile.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("cat")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "elsewhere")
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("cat/1.png"))
    with pytest.raises(DataError):
        unpack(path, workspace, tmp_path / "scratch")
    assert files(tmp_path / "elsewhere") == set()


DAMAGES = [(suffix, damage) for suffix in (".tar.gz", ".tar", ".zip") for damage in ("half", "tail", "text", "empty")]
# A plain tar keeps no checksum of its members' content.
DAMAGES += [(suffix, damage) for suffix in (".tar.gz", ".zip") for damage in ("scrambled", "scrambled code")]


@pytest.mark.parametrize(("suffix", "damage"), DAMAGES)
def test_corrupt_archive_is_a_data_error(suffix: str, damage: str, workspace: Workspace, tmp_path: Path) -> None:
    content = repr(list(range(20_000))).encode()  # compresses well, unlike pictures
    path = pack(tmp_path / f"photos{suffix}", {
        f"cat/{seed}.png": content if damage == "scrambled code" else picture(seed) for seed in range(8)
    })  # fmt: skip
    whole = path.read_bytes()
    middle = len(whole) // 2
    scrambled = (
        whole[: middle - 2000]
        + bytes(byte ^ 0xA5 for byte in whole[middle - 2000 : middle + 2000])
        + whole[middle + 2000 :]
    )
    path.write_bytes({
        "half": whole[:middle], "tail": whole[: middle // 8], "text": b"no archive\n" * 50, "empty": b"",
        "scrambled": scrambled, "scrambled code": scrambled,
    }[damage])  # fmt: skip
    with pytest.raises(DataError, match="photos"):
        unpack(path, workspace, tmp_path / "scratch")


def test_encrypted_zip_is_a_data_error(workspace: Workspace, tmp_path: Path) -> None:
    path = pack(tmp_path / "photos.zip", {"cat/1.png": picture()})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # flag of the local header
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and of the directory
    path.write_bytes(content)
    with pytest.raises(DataError, match="photos"):
        unpack(path, workspace, tmp_path / "scratch")


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_missing_source_is_a_data_error_that_names_it(kind: str, workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"nowhere does not exist: ingest.source.{kind}"):
        fetch(SourceConfig(**{kind: "nowhere"}), workspace, tmp_path)


def test_folder_for_an_archive_and_an_archive_for_a_folder_are_data_errors(
    workspace: Workspace, tmp_path: Path
) -> None:
    (workspace.root / "folder").mkdir()
    (workspace.root / "file").write_bytes(b"x")
    with pytest.raises(DataError, match="is not a archive"):
        fetch(SourceConfig(archive="folder"), workspace, tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        fetch(SourceConfig(folder="file"), workspace, tmp_path)


def test_users_own_folder_is_read_where_it_is(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.root / "mine").mkdir()
    assert fetch(SourceConfig(folder="mine"), workspace, tmp_path / "scratch") == workspace.root / "mine"
    assert not (tmp_path / "scratch").exists()


def test_state_of_a_folder_changes_with_its_files(workspace: Workspace) -> None:
    folder = workspace.root / "mine"
    (folder / "cat").mkdir(parents=True)
    file = folder / "cat" / "1.png"
    source = SourceConfig(folder="mine")
    states = [source_state(source, workspace)]
    file.write_bytes(b"12")
    states.append(source_state(source, workspace))
    assert source_state(source, workspace) == states[-1]
    file.write_bytes(b"123")
    states.append(source_state(source, workspace))
    os.utime(file, ns=(1, 1))
    states.append(source_state(source, workspace))
    file.rename(folder / "cat" / "2.png")
    states.append(source_state(source, workspace))
    assert len(set(states)) == 5


def test_state_of_an_archive_changes_with_the_file_and_a_missing_one_has_a_state(workspace: Workspace) -> None:
    source = SourceConfig(archive="photos.zip")
    missing = source_state(source, workspace)
    pack(workspace.root / "photos.zip", {"cat/1.png": picture()})
    before = source_state(source, workspace)
    pack(workspace.root / "photos.zip", {"cat/1.png": picture(side=41)})
    assert len({missing, before, source_state(source, workspace)}) == 3


@pytest.mark.parametrize(
    "typo, meant",
    [("CIFAR11", "CIFAR10"), ("cifar10", "CIFAR10"), ("FashionMnist", "FashionMNIST"), ("flowers102", "Flowers102")],
)
def test_typo_in_a_torchvision_name_is_answered_with_what_was_meant(
    typo: str, meant: str, workspace: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=f"did you mean '{meant}'"):
        fetch(SourceConfig(torchvision=typo), workspace, tmp_path)
