"""Datasets of torchvision: how they name their splits and classes, and what a typo or a lost network is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets as zoo
from PIL import Image
from torchvision.datasets.utils import verify_str_arg

from tasks.errors import ConfigurationError, DataError
from tasks.ingest.decode import decode
from tasks.ingest.sources import Item, read_source
from tasks.workspace import Workspace
from tests.ingest.pictures import noise, png

CLASSES = ("wood", "metal/steel")


def items(name: str, workspace: Workspace) -> list[Item]:
    return list(read_source({"torchvision": name}).items(workspace))


class Tiny:
    """As torchvision's datasets are: two images a split."""

    classes = CLASSES
    known: tuple[str, ...] = ()

    def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
        assert download and Path(root).name == "downloads"
        verify_str_arg(split, "split", self.known)
        self.split = split

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(noise(f"{self.split} {index}")), index


class ByTrain(Tiny):
    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        assert download
        self.split = f"train is {train}"


class Undivided(Tiny):
    classes = None  # type: ignore[assignment]

    def __init__(self, root: str, download: bool = False) -> None:
        self.split = "all"


class Unreachable(Tiny):
    def __init__(self, root: str, download: bool = False) -> None:
        raise OSError("no route to host")


def add(dataset: type, monkeypatch: pytest.MonkeyPatch, **attributes: Any) -> None:
    monkeypatch.setattr(zoo, "Added", type("Added", (dataset,), attributes), raising=False)


@pytest.mark.parametrize(
    ("known", "taken"),
    [
        (("train", "test"), {"train": "train", "test": "test"}),
        (("train", "valid", "test", "all"), {"train": "train", "valid": "val", "test": "test"}),
        (("train", "val", "trainval", "test"), {"train": "train", "val": "val", "test": "test"}),
        (("trainval", "test"), {"trainval": "train", "test": "test"}),
        (("train", "val"), {"train": "train", "val": "val"}),
    ],
)
def test_every_split_that_the_dataset_has_is_taken_once(
    known: tuple[str, ...], taken: dict[str, str], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(Tiny, monkeypatch, known=known)
    found = items("Added", workspace)
    assert [item.split for item in found] == [split for split in taken.values() for _ in range(2)]
    for item, name in zip(found[::2], taken, strict=True):
        assert item.content is not None
        np.testing.assert_array_equal(np.asarray(decode(item.content)), noise(f"{name} 0"))


def test_dataset_of_other_splits_is_a_data_error(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    add(Tiny, monkeypatch, known=("balanced", "letters"))
    with pytest.raises(DataError, match="no split that is called train, val or test"):
        items("Added", workspace)


def test_splits_by_a_flag_and_names_of_classes(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    add(ByTrain, monkeypatch)
    found = items("Added", workspace)
    assert [item.split for item in found] == ["train", "train", "test", "test"]
    assert [item.labels for item in found[:2]] == [("wood",), ("metal/steel",)]
    assert [item.path for item in found[1:3]] == ["train/metal-steel/000001.png", "test/wood/000000.png"]


def test_undivided_dataset_without_names_is_labelled_by_number(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(Undivided, monkeypatch)
    found = [(item.path, item.labels, item.split) for item in items("Added", workspace)]
    assert found == [("0/000000.png", ("0",), None), ("1/000001.png", ("1",), None)]


def test_host_that_cannot_be_reached_is_told_with_a_way_around(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(Unreachable, monkeypatch)
    with pytest.raises(DataError, match=r"no route to host.*put its files into .*downloads"):
        items("Added", workspace)


def test_files_that_lie_where_torchvision_puts_them_are_not_downloaded(workspace: Workspace) -> None:
    for label in ("Forest", "River"):
        path = workspace.cache / "downloads" / "eurosat" / "2750" / label / f"{label}_1.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(png(label))
    found = items("EuroSAT", workspace)
    assert [(item.labels, item.split) for item in found] == [(("Forest",), None), (("River",), None)]


@pytest.mark.parametrize(
    "typo, meant",
    [("CIFAR11", "CIFAR10"), ("cifar10", "CIFAR10"), ("FashionMnist", "FashionMNIST"), ("flowers102", "Flowers102")],
)
def test_typo_in_a_name_is_answered_with_what_was_meant(typo: str, meant: str, workspace: Workspace) -> None:
    with pytest.raises(ConfigurationError, match=f"did you mean '{meant}'"):
        items(typo, workspace)


def test_name_unlike_any_other_is_a_configuration_error(workspace: Workspace) -> None:
    with pytest.raises(ConfigurationError, match="no dataset 'my/own photos'"):
        items("my/own photos", workspace)
