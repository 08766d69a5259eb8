"""Folders, and what holds of every source: how it is named, that its state is cheap, that a new one is one file."""

from __future__ import annotations

import builtins
import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from sklearn.datasets import load_digits

from tasks.errors import ConfigurationError, DataError
from tasks.ingest import sources
from tasks.ingest.config import IngestConfig
from tasks.ingest.decode import decode
from tasks.ingest.door import ingest_images
from tasks.ingest.sources import SOURCES, Item, Source, read_source
from tasks.workspace import Workspace
from tests.ingest.pictures import encoded, png


def items(source: dict[str, Any], workspace: Workspace) -> list[Item]:
    return list(read_source(source).items(workspace))


def state(source: dict[str, Any], workspace: Workspace) -> str:
    return read_source(source).state(workspace)


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(name))


def test_folder_yields_every_file_in_order_with_where_to_read_it(workspace: Workspace) -> None:
    write(workspace.root / "photos", "dog/1.png", "cat/b/2.png", "cat/10.png", "cat/9.png", "README.txt")
    found = items({"folder": "photos"}, workspace)
    assert [item.path for item in found] == ["README.txt", "cat/10.png", "cat/9.png", "cat/b/2.png", "dog/1.png"]
    for item in found:
        assert (item.place, item.content, item.problem) == (str(workspace.root / "photos" / item.path), None, None)
        assert (item.layout, item.labels, item.split) == ("auto", None, None)
    assert read_source({"folder": "photos"}).total(workspace) == len(found)


@pytest.mark.parametrize("name", ["photos", "./photos/", "ABSOLUTE/photos", "file://ABSOLUTE/photos", "~/photos"])
def test_folder_may_be_named_in_every_way(name: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(workspace.root))
    write(workspace.root / "photos", "cat/1.png")
    named = name.replace("ABSOLUTE", str(workspace.root))
    assert [item.path for item in items({"folder": named}, workspace)] == ["cat/1.png"]


def test_file_urls_are_decoded(workspace: Workspace) -> None:
    write(workspace.root / "my photos ü", "cat/1.png")
    url = (workspace.root / "my photos ü").as_uri()
    assert "%20" in url
    assert [item.path for item in items({"folder": url}, workspace)] == ["cat/1.png"]


def test_hidden_folder_is_one_item_and_is_not_entered(workspace: Workspace) -> None:
    write(
        workspace.root / "photos",
        "cat/1.png",
        ".git/a/1.png",
        ".git/b/2.png",
        "dog/__MACOSX/1.png",
        "dog/.x",
        "@eaDir/1.jpg",
        "dog/$Recycle.Bin/2.png",
    )
    found = {item.path: item.problem and item.problem.kind for item in items({"folder": "photos"}, workspace)}
    assert found == {"cat/1.png": None, ".git": "hidden", "dog/__MACOSX": "hidden", "dog/.x": "hidden"} | {
        "@eaDir": "hidden", "dog/$Recycle.Bin": "hidden"
    }  # fmt: skip


def test_links_are_followed_but_not_in_circles(workspace: Workspace) -> None:
    write(workspace.root, "elsewhere/1.png", "photos/cat/1.png")
    (workspace.root / "photos" / "dog").symlink_to(workspace.root / "elsewhere")
    (workspace.root / "photos" / "cat" / "round").symlink_to(workspace.root / "photos")
    (workspace.root / "elsewhere" / "here").symlink_to(".")
    assert [item.path for item in items({"folder": "photos"}, workspace)] == ["cat/1.png", "dog/1.png"]


def test_tree_deeper_than_pythons_stack_is_read(workspace: Workspace) -> None:
    write(workspace.root / "photos", "a/" * 200 + "1.png")
    before = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(len(inspect.stack()) + 100)
        found = items({"folder": "photos"}, workspace)
    finally:
        sys.setrecursionlimit(before)
    assert [item.path for item in found] == ["a/" * 200 + "1.png"]


def test_folder_that_cannot_be_listed_is_one_item(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    write(workspace.root / "photos", "cat/1.png", "locked/2.png")
    listdir = os.listdir

    def refuse(path: str) -> list[str]:
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert [item.path for item in items({"folder": "photos"}, workspace)] == ["cat/1.png", "locked"]


def test_missing_folder_is_a_data_error_that_names_it(workspace: Workspace) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist: ingest\.source\.folder"):
        items({"folder": "nowhere"}, workspace)
    (workspace.root / "file").write_bytes(b"x")
    with pytest.raises(DataError, match="file is not a folder"):
        items({"folder": "file"}, workspace)


@pytest.mark.parametrize("name", ["data", "data/cat", "./data/../data"])
def test_folder_that_headstart_fills_is_refused(name: str, workspace: Workspace) -> None:
    write(workspace.data, "cat/1.png")
    with pytest.raises(DataError, match="headstart itself fills"):
        items({"folder": name}, workspace)


@pytest.mark.parametrize("name", ["data", "data/cats", "elsewhere", "file://ROOT/data", "file://ROOT/elsewhere/cats"])
def test_folder_that_headstart_fills_is_refused_by_each_of_its_names(name: str, workspace: Workspace) -> None:
    write(workspace.root / "elsewhere", "cats/1.png")
    workspace.data.symlink_to(workspace.root / "elsewhere")
    with pytest.raises(DataError, match="headstart itself fills"):
        read_source({"folder": name.replace("ROOT", str(workspace.root))}).check(workspace)


@pytest.mark.parametrize("name", [".", "..", "LINK"])
def test_what_headstart_fills_is_passed_over_in_a_folder_around_it(
    name: str, workspace: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write(workspace.root, "cats/1.png", "dogs/data/1.png", "mlruns/artifacts/1/roc.png", "data/cats/1.png")
    link = tmp_path_factory.mktemp("elsewhere") / "link"
    link.symlink_to(workspace.root)
    source = {"folder": name.replace("LINK", str(link))}
    above = f"{workspace.root.name}/" if name == ".." else ""
    found = {item.path: item.problem and item.problem.kind for item in items(source, workspace)}
    expected = {"cats/1.png": None, "dogs/data/1.png": None, "data": "hidden", "mlruns": "hidden"}
    assert {path: kind for path, kind in found.items() if path.startswith(above)} == {
        f"{above}{path}": kind for path, kind in expected.items()
    }
    before = state(source, workspace)
    write(workspace.data, "cats/2.png")
    assert state(source, workspace) == before
    if name == ".":
        assert read_source(source).total(workspace) == 2


def test_unknown_layout_is_a_configuration_error_before_anything_is_read(workspace: Workspace) -> None:
    for source in ({"folder": "nowhere"}, {"archive": "nowhere"}):
        with pytest.raises(ConfigurationError, match="'lable' must be one of label, split"):
            items(source | {"layout": "split/lable"}, workspace)


@pytest.mark.parametrize("name", ["simplecache::s3://b/x", "dask://b/x", "github://b/x", "ftp://b/x"])
def test_urls_of_other_schemes_are_not_read(name: str, workspace: Workspace) -> None:
    """Among fsspec's are some that write files or run programs."""
    for kind in ("folder", "archive", "table", "webdataset"):
        with pytest.raises(ConfigurationError, match="are not read"):
            items({kind: name}, workspace)


@pytest.mark.parametrize("source", [{}, {"folder": "a", "archive": "b"}, {"folders": "a"}, {"layout": "label"}])
def test_exactly_one_source_is_to_be_named(source: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="name exactly one of folder, archive, table"):
        IngestConfig.model_validate({"source": source})


def test_typo_in_a_key_is_answered_with_what_was_meant() -> None:
    with pytest.raises(ValidationError, match="unknown key 'layuot'; did you mean 'layout'"):
        IngestConfig.model_validate({"source": {"folder": "a", "layuot": "label"}})
    with pytest.raises(ValidationError, match="known here: archive, layout"):
        IngestConfig.model_validate({"source": {"archive": "a", "roots": []}})


def test_state_of_a_folder_changes_with_its_files(workspace: Workspace) -> None:
    folder, source = workspace.root / "photos", {"folder": "photos"}
    (folder / "cat").mkdir(parents=True)
    states = [state(source, workspace)]
    changes = [
        lambda file: file.write_bytes(b"12"), lambda file: file.write_bytes(b"123"),
        lambda file: os.utime(file, ns=(1, 1)), lambda file: file.rename(folder / "cat" / "2.png"),
    ]  # fmt: skip
    for change in changes:
        change(folder / "cat" / "1.png")
        states.append(state(source, workspace))
        assert state(source, workspace) == states[-1]
    assert len(set(states)) == 5


@pytest.mark.parametrize("source", [{"folder": "photos"}, {"archive": "a.tar"}, {"webdataset": "*.tar"}])
def test_state_opens_no_file(source: dict[str, str], workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    write(workspace.root, "photos/cat/1.png", "photos/dog/2.png", "a.tar")
    for name in ("open", "io.open", "os.open"):
        module = sys.modules[name.rpartition(".")[0]] if "." in name else builtins
        monkeypatch.setattr(module, name.rpartition(".")[2], lambda *_, **__: pytest.fail("a file was opened"))
    assert state(source, workspace)


def test_digits_are_scikit_learns(workspace: Workspace) -> None:
    oracle, found = load_digits(), items({"embedded": "digits"}, workspace)
    assert len(found) == read_source({"embedded": "digits"}).total(workspace) == len(oracle.target)
    for item, pixels, label in zip(found, oracle.images, oracle.target, strict=True):
        assert item.labels == (str(label),) and item.content is not None
        np.testing.assert_array_equal(np.asarray(decode(item.content))[..., 0], np.round(pixels * 255 / 16))


class Colours(Source):
    """A source as a user writes one."""

    colours: int
    """Images per colour."""
    remembers: ClassVar[bool] = False

    def items(self, workspace: Workspace, limit: int = 2**28) -> Iterator[Item]:
        """Flat images, all different."""
        for shade in range(self.colours):
            for channel, label in enumerate(("red", "green")):
                pixels = np.zeros((4, 4, 3), np.uint8)
                pixels[..., channel] = 255 - shade
                content = encoded(Image.fromarray(pixels), "BMP")
                yield Item(f"{label}/{shade}.bmp", content=content, labels=(label,))


def test_new_source_is_one_class_and_its_name(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SOURCES", (*SOURCES, Colours))
    config = IngestConfig.model_validate({"source": {"colours": 20}})
    dataset = ingest_images(config, workspace, into_data=False)
    assert (dataset.source, dataset.classes, sum(dataset.counts.values())) == ("colours:20", ("green", "red"), 40)
    assert config.model_dump()["source"] == {"colours": 20}
    with pytest.raises(ValidationError, match="valid integer"):
        IngestConfig.model_validate({"source": {"colours": "many"}})
