"""Archives are read as they are called by nobody: streams of members, of which hostile ones are kept out."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import zstandard

from tasks.errors import DataError
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.kinds import EMPTY_FOLDER
from tasks.ingest.sources import Item, read_source
from tasks.ingest.sources.archive import _is_plainly_dos
from tasks.records import Dataset
from tasks.workspace import Workspace
from tests.ingest.pictures import png, tarred, zipped

PHOTOS = {f"photos/{name}": png(name) for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/deep/er/2.png")}
PACKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    ".tar": tarred,
    ".tar.gz": lambda members: gzip.compress(tarred(members)),
    ".tar.bz2": lambda members: bz2.compress(tarred(members)),
    ".tar.xz": lambda members: lzma.compress(tarred(members)),
    ".tar.zst": lambda members: zstandard.ZstdCompressor(write_checksum=True).compress(tarred(members)),
    ".zip": zipped,
}


def items(path: Path, limit: int = 2**28) -> list[Item]:
    return list(read_source({"archive": str(path)}).items(Workspace(path.parent), limit))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", PACKERS)
def test_every_format_yields_the_same_members(suffix: str, tmp_path: Path) -> None:
    found = items(write(tmp_path / f"photos{suffix}", PACKERS[suffix](PHOTOS)))
    assert {item.path: item.content for item in found} == PHOTOS
    assert [(item.problem, item.layout, item.labels) for item in found] == [(None, "auto", None)] * len(PHOTOS)


def test_names_that_a_zip_has_lost_the_letters_of_are_those_that_it_keeps_beside_them(tmp_path: Path) -> None:
    """Info-ZIP's Unicode Path, which counts where it is of the name that is stored."""
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for number, (name, of) in enumerate({"猫": b"_/0.png", "犬": b"_/1.png", "cow": b"another name"}.items()):
            member = zipfile.ZipInfo(f"_/{number}.png")
            told = b"\x01" + zlib.crc32(of).to_bytes(4, "little") + f"{name}/{number}.png".encode()
            other = struct.pack("<HHI", 0x5455, 4, 0)  # a field of another kind before it
            member.extra = other + struct.pack("<HH", 0x7075, len(told)) + told
            archive.writestr(member, png(name))
    assert [item.path for item in items(tmp_path / "photos.zip")] == ["猫/0.png", "犬/1.png", "_/2.png"]


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("name", ["photos.zip", "photos.tar", "photos.jpg", "photos"])
def test_archive_is_what_its_bytes_say_not_what_it_is_called(suffix: str, name: str, tmp_path: Path) -> None:
    found = items(write(tmp_path / name, PACKERS[suffix](PHOTOS)))
    assert {item.path: item.content for item in found} == PHOTOS


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_archive_of_several_compressed_parts_is_read_to_its_end(
    compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """Programs that compress on all cores write such."""
    content = tarred(PHOTOS)
    parts = [compress(content[start : start + 4000]) for start in range(0, len(content), 4000)]
    assert len(items(write(tmp_path / "photos.tar", b"".join(parts)))) == len(PHOTOS)


def test_folders_and_dots_in_names_are_tidied_and_clutter_is_hidden(tmp_path: Path) -> None:
    names = ["./cat/1.png", "cat//2.png", "cat\\3.png", "__MACOSX/cat/._1.png", ".DS_Store"]
    for content in (tarred(dict.fromkeys(names, b"x")), zipped(dict.fromkeys(names, b"x"))):
        found = {item.path: item.problem and item.problem.kind for item in items(write(tmp_path / "x", content))}
        clutter = {"__MACOSX/cat/._1.png": "hidden", ".DS_Store": "hidden"}
        assert found == {"cat/1.png": None, "cat/2.png": None, "cat/3.png": None} | clutter


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_folders_that_are_hidden_or_lead_out_are_no_classes(kind: str, tmp_path: Path) -> None:
    names = [
        "__MACOSX/",
        "cat/",
        "cat/.ipynb_checkpoints/",
        ".git/",
        ".git/objects/",
        "/etc/",
        "bird/../../x/",
        "bird/",
    ]
    if kind == "tar":
        content = tarred({name.rstrip("/"): (tarfile.DIRTYPE, "") for name in names})
    else:
        content = zipped(dict.fromkeys(names, b""))
    assert [(item.path, item.problem) for item in items(write(tmp_path / "x", content))] == [
        ("cat/", EMPTY_FOLDER), ("bird/", EMPTY_FOLDER),
    ]  # fmt: skip


NAMES = ["../outside.png", "cat/../../outside.png", "ROOT/outside.png", "C:\\outside.png", "C:outside.png",
         "..\\outside.png", "\\outside.png", "\\\\server\\share\\outside.png", "cat/..", "x" * 256 + "/1"]  # fmt: skip
MEMBERS = {
    "cat/link.png": (tarfile.SYMTYPE, "/etc/hostname"), "cat/up.png": (tarfile.SYMTYPE, "../../secret.png"),
    "cat/hard.png": (tarfile.LNKTYPE, "photos/cat/1.png"), "cat/folder": (tarfile.SYMTYPE, "/tmp"),
    "cat/folder/1.png": (tarfile.LNKTYPE, "../secret.png"), "cat/pipe.png": (tarfile.FIFOTYPE, ""),
    "cat/device.png": (tarfile.CHRTYPE, ""), "cat/disk.png": (tarfile.BLKTYPE, ""),
    "cat/bytes.png": (tarfile.SYMTYPE, "caf\udce9"),
}  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str], Dataset]:
    """A folder, what lay in it before, and what came of a hostile tar and a hostile zip."""
    root = tmp_path_factory.mktemp("hostile")
    workspace = Workspace(root / "deep" / "workspace")
    workspace.root.mkdir(parents=True)
    (root / "deep" / "secret.png").write_bytes(png("secret"))
    photos = {f"{'cd'[index % 2]}/{index}.png": png(f"hostile {index}") for index in range(20)}
    outside = {name.replace("ROOT", str(root)): png(f"outside {name}") for name in NAMES}
    (workspace.root / "hostile.tar").write_bytes(tarred(photos | outside | MEMBERS | {"cat/caf\udce9.png": b"x"}))
    link = zipfile.ZipInfo("cat/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    (workspace.root / "hostile.zip").write_bytes(zipped(photos | outside))
    with zipfile.ZipFile(workspace.root / "hostile.zip", "a") as archive:
        archive.writestr(link, "/etc/hostname")
    before = {path.relative_to(root).as_posix() for path in root.rglob("*")}
    domains = {kind: {"archive": f"hostile.{kind}", "layout": "label"} for kind in ("tar", "zip")}
    config = {"source": {"domains": domains}, "checks": {"duplicate": "warn"}}
    return root, before, ingest_images(IngestConfig.model_validate(config), workspace)


@pytest.mark.slow
def test_hostile_members_are_kept_out_as_unsafe(hostile: tuple[Path, set[str], Dataset]) -> None:
    *_, dataset = hostile
    listed = pd.read_csv(dataset.report / "quarantine.csv")
    assert set(listed["kind"]) == {"unsafe_path"}
    assert listed["path"].str.startswith("tar/").sum() == len(NAMES) + len(MEMBERS) + 1
    assert listed["path"].str.startswith("zip/").sum() == len(NAMES) + 1
    assert len(dataset.read_manifest()) == 40


def test_hostile_archive_writes_nothing_outside_of_the_workspaces_own_folders(
    hostile: tuple[Path, set[str], Dataset],
) -> None:
    root, before, dataset = hostile
    own = ("data", "data.dvc", ".dvc", ".headstart", ".dvcignore")
    after = {path.relative_to(root).as_posix() for path in root.rglob("*")}
    assert all(name.startswith(tuple(f"deep/workspace/{start}" for start in own)) for name in after - before)
    data = root / "deep" / "workspace" / "data"
    found = {path.relative_to(data).as_posix() for path in data.rglob("*") if not path.is_dir()}
    assert found == set(dataset.read_manifest()["path"]) | {"manifest.csv"}


def test_file_and_folder_of_one_name_cannot_both_be_checked_out(workspace: Workspace) -> None:
    photos = {f"{'cd'[index % 2]}/{index}.png": png(f"names {index}") for index in range(20)}
    clash = {"c/x/y": png("a file"), "c/x/y/1.png": png("below it"), "manifest.csv/1.png": png("manifest")}
    write(workspace.root / "clash.tar", tarred(photos | clash))
    config = IngestConfig.model_validate({"source": {"archive": "clash.tar"}})
    dataset = ingest_images(config, workspace)
    listed = pd.read_csv(dataset.report / "quarantine.csv")
    assert dict(zip(listed["path"], listed["kind"], strict=True)) == {
        "c/x/y": "unsafe_path", "manifest.csv/1.png": "unsafe_path"
    }  # fmt: skip
    assert (workspace.data / "c" / "x" / "y" / "1.png").read_bytes() == clash["c/x/y/1.png"]


DAMAGES = [(suffix, damage) for suffix in PACKERS for damage in ("half", "eighth", "text", "empty", "one byte less")]
# A plain tar keeps no checksum of its members' content.
DAMAGES += [(suffix, "scrambled") for suffix in PACKERS if suffix != ".tar"]
# There, the last byte is padding, and a byte of a checksum of what has been read.
DAMAGES = [entry for entry in DAMAGES if entry not in ((".tar", "one byte less"), (".tar.zst", "one byte less"))]


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "damage"), DAMAGES)
@pytest.mark.parametrize("content", ["pictures", "text that compresses well"])
def test_damaged_archive_is_a_data_error_that_names_it(suffix: str, damage: str, content: str, tmp_path: Path) -> None:
    text = repr(list(range(20_000))).encode()
    whole = PACKERS[suffix]({f"cat/{seed}.png": png(f"{seed}") if content == "pictures" else text for seed in range(8)})
    middle = len(whole) // 2
    around = slice(middle - 500, middle + 500)
    damaged = {
        "half": whole[:middle], "eighth": whole[: len(whole) // 8], "text": b"no archive\n" * 50, "empty": b"",
        "one byte less": whole[:-1],
        "scrambled": whole[: around.start] + bytes(byte ^ 0xA5 for byte in whole[around]) + whole[around.stop :],
    }[damage]  # fmt: skip
    with pytest.raises(DataError, match=re.escape(f"photos{suffix} cannot be unpacked")):
        items(write(tmp_path / f"photos{suffix}", damaged))


@pytest.mark.parametrize("beyond", [0, 1, 300, 512])
def test_tar_that_ends_between_two_members_is_a_data_error(beyond: int, tmp_path: Path) -> None:
    """An interrupted copy ends at a multiple of the disk's blocks, and so perhaps exactly there."""
    end = 512 + -(-len(next(iter(PHOTOS.values()))) // 512) * 512
    with pytest.raises(DataError, match=r"header is damaged or missing|unexpected end"):
        items(write(tmp_path / "photos.tar", tarred(PHOTOS)[: end + beyond]))


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".zip"])
def test_archives_that_were_joined_are_not_read_in_part(suffix: str, tmp_path: Path) -> None:
    archived = zipped if suffix == ".zip" else tarred
    pack = gzip.compress if suffix == ".tar.gz" else bytes
    both = pack(archived(PHOTOS)) + pack(archived({"photos/emu/2.png": b"another"}))
    with pytest.raises(DataError, match="files were joined by cat"):
        items(write(tmp_path / f"photos{suffix}", both))


def test_zeros_behind_the_end_of_a_tar_are_nothing(tmp_path: Path) -> None:
    assert len(items(write(tmp_path / "photos.tar", tarred(PHOTOS) + bytes(4096)))) == len(PHOTOS)


def test_damaged_header_is_a_data_error_not_the_end(tmp_path: Path) -> None:
    whole = bytearray(tarred(PHOTOS))
    whole[whole.index(b"photos/dog/1.png") + 150] ^= 1
    with pytest.raises(DataError, match="header is damaged"):
        items(write(tmp_path / "photos.tar", bytes(whole)))


def test_encrypted_zip_is_a_data_error(tmp_path: Path) -> None:
    content = bytearray(zipped(PHOTOS))
    content[6] |= 1  # flag of the first member
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and of its entry in the directory
    with pytest.raises(DataError, match=r"photos\.zip .*encrypted"):
        items(write(tmp_path / "photos.zip", bytes(content)))


@pytest.mark.parametrize("suffix", PACKERS)
def test_member_beyond_the_limit_is_kept_out_and_the_others_are_read(suffix: str, tmp_path: Path) -> None:
    members = {"cat/1.png": png("small"), "cat/bomb.png": bytes(2**24), "cat/2.png": png("other")}
    found = items(write(tmp_path / "photos", PACKERS[suffix](members)), limit=10_000)
    assert {item.path: item.problem and item.problem.kind for item in found} == {
        "cat/1.png": None, "cat/bomb.png": "too_large", "cat/2.png": None
    }  # fmt: skip
    assert [len(item.content or b"") <= 10_000 for item in found] == [True] * 3


def test_zip_bomb_whose_header_lies_is_not_inflated(tmp_path: Path) -> None:
    content = bytearray(zipped({"cat/bomb.png": bytes(2**24)}))
    for start, offset in ((0, 22), (content.index(b"PK\x01\x02"), 24)):
        content[start + offset : start + offset + 4] = struct.pack("<I", 100)
    with pytest.raises(DataError, match=r"photos\.zip"):
        items(write(tmp_path / "photos.zip", bytes(content)), limit=10_000)


def test_missing_archive_or_a_folder_for_one_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist: ingest\.source\.archive"):
        items(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="folder is not a file"):
        items(tmp_path / "folder")


@pytest.mark.parametrize("flagged", [False, True])
def test_names_of_a_zip_are_utf_8_where_they_can_be(tmp_path: Path, flagged: bool) -> None:
    """macOS packs UTF-8 and does not say so."""
    workspace, classes = Workspace(tmp_path), ("kätzchen", "собака")
    packed = zipped({f"{name}/{index}.png": png(f"{name} {index}") for name in classes for index in range(20)})
    (tmp_path / "photos.zip").write_bytes(packed if flagged else without_flag(packed))
    dataset = ingest_images(IngestConfig.model_validate({"source": {"archive": "photos.zip"}}), workspace)
    assert dataset.classes == classes


def packed_as(encoding: str, *classes: str) -> bytes:
    """A ZIP of classes, eight images of each, whose names are in an encoding that it does not tell."""
    packed = zipped({f"x{number}x/{index}.png": png(f"{name} {index}") for number, name in enumerate(classes)
                     for index in range(8)})  # fmt: skip
    for number, name in enumerate(classes):
        stored = name.encode(encoding)
        assert len(stored) == 3
        packed = packed.replace(b"x%dx" % number, stored)
    return packed


@pytest.mark.parametrize(
    ("encoding", "classes"),
    [("shift_jis", ("猫a", "犬a")), ("latin-1", ("Kuh", "Kuß")), ("cp437", ("Kuh", "öLi")), ("gbk", ("狗a", "cat"))],
)
def test_names_of_classes_in_an_encoding_that_nobody_can_tell_are_not_guessed_at(
    encoding: str, classes: tuple[str, str], tmp_path: Path
) -> None:
    path = write(tmp_path / "photos.zip", packed_as(encoding, *classes))
    doubtful = next(name for name in classes if not name.isascii())
    with pytest.raises(
        DataError, match=rf"photos\.zip: a member's name is not UTF-8, .*source\.encoding.*'{doubtful}/0"
    ):
        items(path)
    source = {"archive": str(path), "encoding": encoding}
    found = read_source(source).items(Workspace(tmp_path))
    assert {item.path.split("/")[0] for item in found} == set(classes)
    with pytest.raises(DataError, match="a member's name is not ascii"):
        list(read_source(source | {"encoding": "ascii"}).items(Workspace(tmp_path)))


@pytest.mark.parametrize("classes", [("Kuh", "Bär"), ("été", "mar"), ("Löw", "Wüh"), ("año", "uña")], ids=ascii)
def test_names_that_are_plainly_those_of_dos_are_read_as_zips_rules_have_it(
    classes: tuple[str, str], tmp_path: Path
) -> None:
    path = write(tmp_path / "photos.zip", packed_as("cp437", *classes))
    assert {item.path.split("/")[0] for item in items(path)} == set(classes)


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("shift_jis", "猫犬"), ("shift_jis", "いぬ"), ("gbk", "猫"), ("big5", "貓狗"), ("euc_kr", "고양이"),
     ("cp866", "кот"), ("windows-1252", "Käfer"), ("windows-1252", "été"), ("iso8859-2", "pták")],
    ids=ascii,
)  # fmt: skip
def test_names_in_encodings_of_countries_are_never_taken_for_those_of_dos(encoding: str, name: str) -> None:
    assert not _is_plainly_dos(name.encode(encoding).decode("cp437"))
    assert _is_plainly_dos("Käfer") and _is_plainly_dos("Größe/Ärmel") and _is_plainly_dos("Señal/façade")


def test_names_of_files_alone_may_be_in_any_encoding(tmp_path: Path) -> None:
    path = write(tmp_path / "photos.zip", zipped({"cat/xxx.png": png("1")}).replace(b"xxx", "Kuß".encode("latin-1")))
    assert [item.path for item in items(path)] == ["cat/Ku\u2580.png"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"7z\xbc\xaf\x27\x1c" + bytes(range(256)) * 8, "a 7z archive: unpack it; a .tar, .tar.gz, .tar.zst or .zip"),
        (b"Rar!\x1a\x07\x01" + bytes(100), "a RAR archive: unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"<!doctype html><html>" + b" " * 600, "a web page"),
        (png("1"), "an image (png)"),
    ],
    ids=["7z", "rar", "pointer", "page", "image"],
)
def test_what_is_no_archive_that_is_read_is_told(content: bytes, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"photos\.zip is {re.escape(told)}"):
        items(write(tmp_path / "photos.zip", content))


def test_a_damaged_tar_is_one_whatever_its_first_member_is_called(tmp_path: Path) -> None:
    whole = tarred({f"MZ/{number}.png": png(f"{number}") for number in range(4)})
    with pytest.raises(DataError, match=r"photos\.tar cannot be unpacked"):
        items(write(tmp_path / "photos.tar", whole[: len(whole) // 2]))


def without_flag(packed: bytes) -> bytes:
    """A ZIP whose members do not say in what encoding their names are."""
    changed = bytearray(packed)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = changed.find(signature)
        while at >= 0:
            flags = int.from_bytes(changed[at + offset : at + offset + 2], "little") & ~0x800
            changed[at + offset : at + offset + 2] = flags.to_bytes(2, "little")
            at = changed.find(signature, at + 4)
    return bytes(changed)
