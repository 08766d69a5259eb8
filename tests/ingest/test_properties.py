"""What holds of every source, however it is made up and damaged."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.errors import ConfigurationError, DataError
from tasks.ingest.config import IngestConfig
from tasks.ingest.decode import decode
from tasks.ingest.door import ingest_images
from tasks.ingest.repository import object_store
from tasks.records import Dataset
from tasks.workspace import Workspace
from tests.ingest.pictures import encoded, noise, png, tarred

few = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)  # fmt: skip
FORMATS = ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP")
DAMAGES = ("truncated", "flipped", "emptied", "lengthened", "replaced")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty workspace, to be copied for every example: initialising one takes long."""
    root = tmp_path_factory.mktemp("home")
    object_store(Workspace(root))
    return root


@contextmanager
def copy_of(home: Path) -> Iterator[Workspace]:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(home, Path(folder) / "workspace")
        yield Workspace(Path(folder) / "workspace")


def ingested(workspace: Workspace, source: dict[str, Any], **split: Any) -> Dataset:
    """A dataset; an example that nothing can be learned from, or that can be read in several ways, is not one."""
    config = IngestConfig.model_validate({"source": source, "split": split})
    try:
        return ingest_images(config, workspace, into_data=False)
    except (DataError, ConfigurationError) as error:
        assume(not any(told in str(error) for told in ("no training image for", "only one class", "can be read in")))
        raise


def damaged(content: bytes, how: str, where: float) -> bytes:
    at = int((len(content) - 1) * where)
    match how:
        case "truncated":
            return content[:at]
        case "flipped":
            return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]
        case "emptied":
            return b""
        case "lengthened":
            return content + b"junk" * (1 + at)
        case "replaced":
            return f"<html>{where}".encode()
    return content


def content_of(number: int, format: str, side: int, damage: str, where: float) -> bytes:
    """The bytes of an image that only this number, format and size have, perhaps damaged."""
    return damaged(encoded(Image.fromarray(noise(f"{number}", side, side)), format), damage, where)


names = st.text(st.sampled_from("ab.Ü 🐈-_%'\n"), min_size=1, max_size=4).map(lambda name: f"{name}.x")
folders = st.lists(st.sampled_from(["a", "b", "train", "day", ".git", "__MACOSX", "c d", "x.png"]), max_size=3)
contents = st.builds(
    content_of, st.integers(0, 15), st.sampled_from(FORMATS), st.sampled_from([1, 2, 9, 33]),
    st.sampled_from(("none",) * 5 + DAMAGES), st.floats(0, 1),
)  # fmt: skip
whole = st.builds(png, st.integers(0, 20).map(str), st.just(6))
CLASSES = [("a", "b"), ("train/a", "train/b", "test/a", "test/b"), ("around/a", "around/b", "around/c d")]


@st.composite
def trees(draw: st.DrawFn, strays: bool = True, shape: tuple[str, ...] | None = None) -> dict[str, bytes]:
    """Content by path of files in class folders, some of them copies of each other, and of others anywhere."""
    classes = shape or draw(st.sampled_from(CLASSES))
    tree = {f"{folder}/{number}.png": png(f"{folder} {number}", 6) for folder in classes for number in range(16)}
    for number, (folder, content) in enumerate(draw(st.lists(st.tuples(st.sampled_from(classes), whole)))):
        tree[f"{folder}/copy {number}.png"] = content
    for above, inside, name, content in draw(
        st.lists(
            st.tuples(st.sampled_from(["", *classes] if strays else classes), folders, names, contents), min_size=9
        )
    ):
        path = "/".join([*filter(None, [above]), *inside, name])
        parts = path.split("/")
        if not {"/".join(parts[:depth]) for depth in range(len(parts))} & tree.keys():
            tree.setdefault(path, content)
    return tree


def write(root: Path, tree: dict[str, bytes]) -> None:
    for path, content in tree.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def things(tree: dict[str, bytes]) -> set[str]:
    """All files, where a hidden folder counts as one."""
    found = set()
    for path in tree:
        parts = path.split("/")
        hidden = [depth for depth, part in enumerate(parts, 1) if part.startswith(".") or part == "__MACOSX"]
        found.add("/".join(parts[: hidden[0]] if hidden else parts))
    return found


def check_counts(dataset: Dataset, items: int) -> pd.DataFrame:
    """That everything ended in one of two places, and once; returns the manifest."""
    manifest, checks = dataset.read_manifest(), json.loads((dataset.report / "checks.json").read_text())
    listed = pd.read_csv(dataset.report / "quarantine.csv", keep_default_na=False)
    assert checks["items"] == items == len(manifest) + len(listed)
    assert (checks["images"], checks["quarantined"]) == (len(manifest), len(listed))
    assert sum(dataset.counts.values()) == len(manifest) and dataset.quarantined == len(listed)
    assert manifest["path"].is_unique and manifest["path"].tolist() == sorted(manifest["path"])
    for column in ("split", "label"):
        assert (manifest.groupby("hash")[column].nunique(dropna=False) == 1).all()
    return manifest


@pytest.mark.slow
@few
@given(tree=trees(), packed=st.booleans(), by=st.sampled_from(["auto", "stratified"]))
def test_of_any_tree_every_image_comes_in_as_it_is_and_nothing_is_lost(
    tree: dict[str, bytes], packed: bool, by: str, home: Path
) -> None:
    with copy_of(home) as workspace:
        write(workspace.root / "photos", tree)
        (workspace.root / "photos.tar").write_bytes(tarred(dict(tree)))
        source = {"archive": "photos.tar"} if packed else {"folder": "photos"}
        dataset = ingested(workspace, source, by=by)
        for row in check_counts(dataset, len(tree) if packed else len(things(tree))).itertuples():
            content = dataset.image(row.hash).read_bytes()
            assert content in [tree.get(above + row.path) for above in ("", "around/")]
            assert (hashlib.md5(content).hexdigest(), len(content)) == (row.hash, row.size)
            assert decode(content).size == (row.width, row.height)
            assert row.label in row.path.split("/")


@pytest.mark.slow
@few
@given(
    parts=st.sampled_from(CLASSES).flatmap(lambda shape: st.tuples(*[trees(strays=False, shape=shape)] * 2)),
    options=st.sampled_from([{"by": "hash"}, {"folds": 4}]),
)
def test_added_files_never_move_an_image_to_another_split(
    parts: tuple[dict[str, bytes], dict[str, bytes]], options: dict[str, Any], home: Path
) -> None:
    with copy_of(home) as workspace:
        splits = []
        for number, part in enumerate(parts):
            write(
                workspace.root / "photos",
                {f"{Path(path).parent}/{number}{Path(path).name}": part[path] for path in part},
            )
            manifest = ingested(workspace, {"folder": "photos"}, **options).read_manifest()
            splits.append(dict(zip(manifest["hash"], manifest["split"], strict=True)))
        stayed = splits[0].keys() & splits[1].keys()
        assert {hash: splits[0][hash] for hash in stayed} == {hash: splits[1][hash] for hash in stayed}
        assert len(stayed) > 5


OUTSIDE = png("outside", 6)
ROWS = {
    "good": "{path},{label},{split}", "another label": "{path},wolf,{split}", "unlabelled": "{path},,",
    "few cells": "{path}", "many cells": "{path},{label},{split},more,and more", "no path": ",{label},{split}",
    "split": "{path},{label},spring", "gone": "gone/{path},{label},{split}", "out": "../outside.png,{label},{split}",
    "in and out": "a/../../outside.png,{label},{split}", "absolute": "ROOT/outside.png,{label},{split}",
    "link": "link.png,{label},{split}", "inside": "ROOT/listed/{path},{label},{split}", "folder": "a,{label},{split}",
    "url": "file://ROOT/outside.png,{label},{split}", "web": "http://localhost:9/1.png,{label},{split}",
    "quoted": '"{path}","{label}","{split}"', "two lines": '"no\n{path}","{label}",{split}', "text": "notes.txt,a,",
    "zero": "\0{path},{label},{split}", "long": "{path}" + "x" * 5000 + ",{label},{split}", "other root": "~/{path},a,",
    "surrogate": "\\udce9{path},{label},{split}", "blank": "",
}  # fmt: skip


@pytest.mark.slow
@few
@given(
    rows=st.lists(st.tuples(st.sampled_from(sorted(ROWS)), st.integers(0, 39)), max_size=60),
    gives_splits=st.booleans(), newline=st.sampled_from(["\n", "\r\n"]), ends=st.booleans(),
)  # fmt: skip
def test_of_any_table_every_row_is_accounted_for_and_none_leads_out(
    rows: list[tuple[str, int]], gives_splits: bool, newline: str, ends: bool, home: Path
) -> None:
    with copy_of(home) as workspace:
        folder = workspace.root / "listed"
        files = {f"{'ab'[number % 2]}/{number}.png": png(f"listed {number}", 6) for number in range(40)}
        write(folder, files | {"notes.txt": b"text"})
        (workspace.root / "outside.png").write_bytes(OUTSIDE)
        (folder / "link.png").symlink_to("../outside.png")
        lines = []
        for kind, number in [*(("good", number) for number in range(40)), *rows]:
            path = list(files)[number]
            split = ("train", "val", "train", "test")[number // 2 % 4] if gives_splits else ""
            line = ROWS[kind].format(path=path, label=path[0], split=split)
            lines.append(line.replace("ROOT", str(workspace.root)))
        text = newline.join(["path,label,split", *lines]) + (newline if ends else "")
        (folder / "t.csv").write_bytes(text.encode())
        dataset = ingested(workspace, {"table": "listed/t.csv"}, by="auto" if gives_splits else "stratified")
        manifest = check_counts(dataset, 40 + sum(kind != "blank" for kind, _ in rows))
        for row in manifest.itertuples():
            assert files[row.path] == dataset.image(row.hash).read_bytes()
        assert not dataset.image(hashlib.md5(OUTSIDE).hexdigest()).exists()


@few
@given(line=st.integers(1, 41), cell=st.binary(max_size=3))
def test_table_that_is_not_utf8_is_one_clear_error(line: int, cell: bytes, home: Path) -> None:
    with copy_of(home) as workspace:
        lines = [b"path,label", *(b"a/%d.png,a" % number for number in range(40))]
        lines.insert(line, b"a/" + cell.translate(None, b',\r\n"') + b"\xff.png,a")
        (workspace.root / "t.csv").write_bytes(b"\n".join(lines))
        with pytest.raises(DataError, match=r"t\.csv"):
            ingested(workspace, {"table": "t.csv"})
