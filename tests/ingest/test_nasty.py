"""A folder of nasty files: each one is accepted with the right pixels or kept out with a reason, and none is lost."""

from __future__ import annotations

import io
import json
import os
import socket
import tarfile
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, UnidentifiedImageError

from tasks.ingest.config import IngestConfig, LimitsConfig
from tasks.ingest.decode import decode
from tasks.ingest.door import ingest_images
from tasks.ingest.kinds import ODD
from tasks.records import Dataset
from tasks.workspace import Workspace
from tests.ingest.pictures import bad, encoded, good, oracle, picture, png

NAMES = [
    "ünï cödé.png", "🐈.png", "貓.png", "new\nline.png", "tab\t.png", "quote'\".png", "comma,semi;.png", "-rf.png",
    "100%41.png", "back\\slash.png", "C:colon.png", "$\\frac$.png", " space .png", "l" * 251 + ".png", "a..png",
]  # fmt: skip
MESSY = Path(__file__).parents[3] / "shared" / "datasets" / "messy-images.tar.gz"
CLASSES = ("cat", "$\\frac$ dög")
CLUTTER = [".DS_Store", "._cat.jpg", "Thumbs.db", "desktop.ini", ".hidden.png", "Icon\r"]


@dataclass
class Nasty:
    """The folder's files, what is expected of each (None: an image; else why not), and what came of them."""

    root: Path
    expected: dict[str, str | None]
    odd: Counter[str]
    dataset: Dataset
    checks: dict[str, Any]
    quarantine: pd.DataFrame


def make_specials(root: Path) -> dict[str, str | None]:
    """What is no plain file: links, pipes, devices, folders called as files are."""
    (root / "cat" / "dangling.png").symlink_to("nowhere.png")
    (root / "cat" / "circle.png").symlink_to("circle.png")
    (root / "cat" / "back").symlink_to(root)  # a loop of folders: walked once
    (root / "cat" / "linked.png").symlink_to(root.parent / "elsewhere.png")
    (root / "cat" / "zeros.png").symlink_to("/dev/zero")
    os.mkfifo(root / "cat" / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(os.path.relpath(root / "cat" / "socket.png")))
    (root / "cat" / "locked.png").write_bytes(png("locked"))
    (root / "cat" / "locked.png").chmod(0)
    readable = os.access(root / "cat" / "locked.png", os.R_OK)  # nothing is locked for the superuser
    (root / "cat" / "folder.jpg").mkdir()
    (root / "cat" / "folder.jpg" / "1.png").write_bytes(png("in a folder called .jpg"))
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "1.png").write_bytes(png("clutter"))
    (root / "stray.png").write_bytes(png("stray"))
    unreadable = ["dangling.png", "circle.png", "zeros.png", "pipe.png", "socket.png"]
    return {
        **{f"cat/{name}": "missing" for name in unreadable}, "cat/locked.png": None if readable else "missing",
        "cat/linked.png": None, "cat/folder.jpg/1.png": None, "__MACOSX": "hidden", "stray.png": "no_label",
    }  # fmt: skip


def make_folder(root: Path) -> tuple[dict[str, str | None], Counter[str]]:
    """Fill a folder, and say what is to become of each file in it."""
    odd: Counter[str] = Counter()
    files: dict[str, tuple[bytes, str | None]] = {}
    for name, content, oddities in good():
        files[name] = content, None
        odd.update(oddities.split())
    files |= {name: (content, kind) for name, content, kind in bad()}
    files |= {name: (png(name), None) for name in NAMES}
    files |= {name: (b"clutter", "hidden") for name in CLUTTER}
    files["wide.png"] = encoded(Image.new("L", (1500, 1500))), "too_large"
    files["heavy.bmp"] = encoded(picture("heavy"), "BMP") + bytes(2**20), "too_large"
    expected = {}
    for index, (name, (content, kind)) in enumerate(files.items()):
        path = f"{CLASSES[index % 2]}/{name}"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
        expected[path] = kind
    with open(os.fsencode(root / "cat") + b"/caf\xe9.png", "wb") as file:
        file.write(png("not UTF-8"))
    (root.parent / "elsewhere.png").write_bytes(png("elsewhere"))
    return expected | {"cat/caf\\udce9.png": "unsafe_path"} | make_specials(root), odd


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Nasty:
    workspace = Workspace(tmp_path_factory.mktemp("nasty"))
    root = workspace.root / "photos"
    expected, odd = make_folder(root)
    config = {"source": {"folder": "photos"}, "limits": {"pixels": 2_000_000, "bytes": 2**20}}
    dataset = ingest_images(IngestConfig.model_validate(config), workspace)
    checks = json.loads((dataset.report / "checks.json").read_text())
    quarantine = pd.read_csv(dataset.report / "quarantine.csv", keep_default_na=False)
    return Nasty(root, expected, odd, dataset, checks, quarantine)


def test_the_folder_is_nasty_enough(nasty: Nasty) -> None:
    assert sum(kind is None for kind in nasty.expected.values()) >= 80
    assert sum(kind is not None for kind in nasty.expected.values()) >= 40


def test_every_image_is_accepted_with_its_bytes_and_nothing_else_is(nasty: Nasty) -> None:
    manifest = nasty.dataset.read_manifest()
    assert sorted(manifest["path"]) == sorted(path for path, kind in nasty.expected.items() if kind is None)
    for row in manifest.itertuples():
        content = (nasty.root / row.path).read_bytes()
        assert nasty.dataset.image(row.hash).read_bytes() == content
        assert (nasty.dataset.image(row.hash).stat().st_size, row.label) == (row.size, row.path.split("/")[0])


def test_every_accepted_image_has_the_pixels_of_the_rule(nasty: Nasty) -> None:
    for row in nasty.dataset.read_manifest().itertuples():
        content = (nasty.root / row.path).read_bytes()
        wanted = oracle(content)
        assert wanted.shape == (row.height, row.width, 3), row.path
        np.testing.assert_allclose(np.asarray(decode(content)), wanted, atol=1, err_msg=row.path)


def test_everything_else_is_kept_out_for_the_expected_reason(nasty: Nasty) -> None:
    found = dict(zip(nasty.quarantine["path"], nasty.quarantine["kind"], strict=True))
    assert found == {path: kind for path, kind in nasty.expected.items() if kind is not None}
    assert (nasty.quarantine["reason"].str.len() > 5).all()


def test_the_counts_add_up(nasty: Nasty) -> None:
    checks, dataset = nasty.checks, nasty.dataset
    assert checks["items"] == checks["images"] + checks["quarantined"] == len(nasty.expected)
    assert checks["quarantined"] == len(nasty.quarantine) == dataset.quarantined
    assert checks["images"] == len(dataset.read_manifest()) == sum(dataset.counts.values())
    kinds = Counter(kind for kind in nasty.expected.values() if kind)
    assert {kind: checks["findings"][kind]["count"] for kind in kinds} == kinds
    assert sum(checks["formats"].values()) == checks["images"]


def test_every_odd_kind_is_counted(nasty: Nasty) -> None:
    found = {kind: entry["count"] for kind, entry in nasty.checks["findings"].items() if kind in ODD}
    assert found == nasty.odd
    assert set(found) == set(ODD)
    assert {nasty.checks["findings"][kind]["policy"] for kind in ODD} == {"warn"}


def test_data_folder_holds_exactly_the_accepted_files(nasty: Nasty) -> None:
    data = nasty.root.parent / "data"
    found = {path.relative_to(data).as_posix() for path in data.rglob("*") if not path.is_dir()}
    assert found == {path for path, kind in nasty.expected.items() if kind is None} | {"manifest.csv"}


def test_report_has_its_picture_and_table(nasty: Nasty) -> None:
    assert (nasty.dataset.report / "checks.png").read_bytes().startswith(b"\x89PNG")
    table = pd.read_csv(nasty.dataset.report / "checks.csv")
    assert dict(zip(table["finding"], table["count"], strict=True)) == {
        kind: entry["count"] for kind, entry in nasty.checks["findings"].items()
    }


def look(content: bytes) -> np.ndarray | str:
    """The pixels by the rule, or the kinds of which one is expected."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            width, height = Image.open(io.BytesIO(content)).size
            return oracle(content) if width * height <= LimitsConfig().pixels else "too_large"
    except UnidentifiedImageError:
        return "not_an_image"
    except Image.DecompressionBombError:
        return "too_large"
    except Exception:  # of some twenty types
        return "truncated undecodable no_scale"


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The archive of odd images beside another domain, since it has no classes of its own."""
    workspace = Workspace(tmp_path_factory.mktemp("messy"))
    for index in range(40):
        path = workspace.root / "plain" / "cat" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(f"plain {index}"))
    domains = {"messy": {"archive": str(MESSY)}, "plain": {"folder": "plain", "layout": "label"}}
    config = {"source": {"domains": domains}, "checks": {"duplicate": "warn"}}
    return ingest_images(IngestConfig.model_validate(config), workspace, into_data=False)


@pytest.mark.shared
@pytest.mark.slow
def test_every_file_of_a_collection_of_odd_images_is_accepted_or_kept_out_as_it_should_be(messy: Dataset) -> None:
    sizes = {row.path: (row.height, row.width, 3) for row in messy.read_manifest().itertuples()}
    listed = pd.read_csv(messy.report / "quarantine.csv")
    kept_out = dict(zip(listed["path"], listed["kind"], strict=True))
    with tarfile.open(MESSY) as archive:
        contents = {f"messy/{member.name}": archive.extractfile(member).read() for member in archive if member.isfile()}
    assert len(contents) == 846 and len(sizes) + len(kept_out) == 846 + 40
    for path, content in contents.items():
        expected = look(content)
        if isinstance(expected, str):
            assert kept_out[path] in expected.split(), path
        else:
            assert sizes[path] == expected.shape, path
            np.testing.assert_allclose(np.asarray(decode(content)), expected, atol=1, err_msg=path)
    assert listed["reason"].str.len().min() > 5
