"""What the folders on the way to an image mean, and what becomes of files that stand in none."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.errors import ConfigurationError, DataError
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.layout import Layout, Placed
from tasks.ingest.reading import find_layout
from tasks.records import Dataset
from tasks.workspace import Workspace
from tests.ingest.pictures import picture, png, turned


def placed(paths: list[str], layout: str = "auto") -> list[Placed]:
    """What a tree of these images says of each."""
    found = find_layout(layout, Counter(path.rpartition("/")[0] for path in paths))
    return [found.place(path) for path in paths]


def test_class_folders_give_labels_and_no_split() -> None:
    assert placed(["cat/1.png", "dog/1.jpg"]) == [
        Placed("cat/1.png", "cat", None, None, None), Placed("dog/1.jpg", "dog", None, None, None),
    ]  # fmt: skip


def test_deeper_folders_belong_to_their_class() -> None:
    found = placed(["cat/indoor/a/1.png", "cat/outdoor/1.png", "dog/1.png", "dog/train/1.png"])
    assert [(each.label, each.split) for each in found] == [("cat", None)] * 2 + [("dog", None)] * 2
    assert placed(["train/cat/test/1.png"])[0] == Placed("train/cat/test/1.png", "cat", "train", None, None)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("training", "train"), ("val", "val"), ("valid", "val"), ("validation", "val"),
        ("dev", "val"), ("test", "test"), ("testing", "test"), ("pool", "pool"), ("TRAIN", "train"), ("Val", "val"),
        ("Unlabelled", "pool"), ("unlabeled", "pool"),
    ],
)  # fmt: skip
def test_split_folders_above_classes_give_splits(name: str, split: str) -> None:
    for other in ("train", "Test"):
        if other.lower() != name.lower():
            found = placed([f"{other}/cat/1.png", f"{name}/cat/2.png"])
            assert found[0].label == "cat" and found[0].split == other.lower()
            assert found[1] == Placed(f"{name}/cat/2.png", "cat", split, None, None)


@pytest.mark.parametrize("wrapper", ["photos/", "photos/inner/", "a b/ü/"])
def test_folders_around_everything_are_entered(wrapper: str) -> None:
    inside = ["train/cat/1.png", "test/dog/1.png", "train/dog/deep/2.png"]
    assert placed([wrapper + path for path in inside]) == placed(inside)
    classes = ["cat/1.png", "dog/1.png"]
    assert placed([wrapper + path for path in classes]) == placed(classes)
    assert placed([wrapper + path for path in classes], "label") == placed(classes)


def test_a_single_split_folder_is_not_taken_for_a_wrapper() -> None:
    found = placed(["train/cat/1.png", "train/dog/2.png"])
    assert [(each.label, each.split) for each in found] == [("cat", "train"), ("dog", "train")]


def test_a_layout_that_is_named_says_how_deep_the_tree_is() -> None:
    assert placed(["photos/cat/1.png"], "*/label") == [Placed("photos/cat/1.png", "cat", None, None, None)]
    assert placed(["only/cat/1.png"], "domain/label") == [Placed("only/cat/1.png", "cat", None, "only", None)]
    assert placed(["all/day/cat/1.png", "all/night/cat/1.png"], "domain/label")[1] == Placed(
        "night/cat/1.png", "cat", None, "night", None
    )


@pytest.mark.parametrize(
    ("layout", "path", "told"),
    [
        ("label", "cat/1.png", ("cat", None, None, None)),
        ("split/label", "dev/cat/1.png", ("cat", "val", None, None)),
        ("label/split", "cat/dev/1.png", ("cat", "val", None, None)),
        ("domain/label", "day/cat/1.png", ("cat", None, "day", None)),
        ("group/label", "patient 1/cat/1.png", ("cat", None, None, "patient 1")),
        ("label/group", "cat/patient 1/1.png", ("cat", None, None, "patient 1")),
        ("split/domain/group/label", "test/day/p/cat/x/1.png", ("cat", "test", "day", "p")),
        ("*/label/*/group", "2024/cat/raw/p/1.png", ("cat", None, None, "p")),
        ("label/group", "cat/1.png", ("cat", None, None, None)),
        ("split/label", "holdout/cat/1.png", ("cat", "test", None, None)),
        ("split/label", "spring/cat/1.png", ("cat", None, None, None)),
        ("split/label", "train/1.png", (None, "train", None, None)),
        ("label", "1.png", (None, None, None, None)),
        ("label", "unlabelled/1.png", (None, "pool", None, None)),
        ("label", "Un-labelled images/deep/1.png", (None, "pool", None, None)),
        ("label", "Pool/deep/1.png", ("Pool", None, None, None)),
        ("label", "pools/1.png", ("pools", None, None, None)),
        ("split/label", "train/pool/1.png", ("pool", "train", None, None)),
        ("split/label", "pool/1.png", (None, "pool", None, None)),
        ("split/label", "pool/cat/1.png", ("cat", "pool", None, None)),
        ("split/label", "train/unlabelled/1.png", (None, "pool", None, None)),
        ("domain/label", "day/unlabelled/1.png", (None, "pool", "day", None)),
    ],
)
def test_every_word_means_its_folder(layout: str, path: str, told: tuple[str | None, ...]) -> None:
    assert Layout.parse(layout).place(path) == Placed(path, *told)


@pytest.mark.parametrize(
    "layout", ["lable", "split/lable", "", "label/", "label/label", "split/*/split", "label split"]
)
def test_unknown_or_repeated_word_is_a_configuration_error_that_says_the_words(layout: str) -> None:
    with pytest.raises(ConfigurationError, match=r"must be one of label, split, domain, group, \*, each once"):
        Layout.parse(layout)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace for all that is ingested here: making one takes longer than an ingestion."""
    return Workspace(tmp_path_factory.mktemp("home"))


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def ingested(workspace: Workspace, **source: Any) -> Dataset:
    config = {"source": source, "split": {"val": 0.3, "test": 0.3}}
    return ingest_images(IngestConfig.model_validate(config), workspace, into_data=False)


def pictures(root: str = "", count: int = 12) -> dict[str, bytes]:
    """Images of two classes."""
    return {f"{root}{label}/{number}.png": png(f"{label} {number}") for number in range(count) for label in "ab"}


CLUTTER = {
    "none": {}, "macos": {"__MACOSX/photos/a/._1.png": b"fork", ".DS_Store": b"x", "photos/.DS_Store": b"x"},
    "text": {"README.txt": b"read me", "photos/LICENSE.txt": b"mine"}, "damaged": {"stray.png": png("stray")[:500]},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("clutter", CLUTTER)
def test_folder_around_the_layout_is_entered_whatever_clutter_lies_beside(clutter: str, home: Workspace) -> None:
    write(home.root / clutter, pictures("photos/inner/") | CLUTTER[clutter])
    dataset = ingested(home, folder=clutter)
    assert set(dataset.read_manifest()["path"]) == set(pictures())
    kept_out = pd.read_csv(dataset.report / "quarantine.csv")
    assert len(kept_out) == len(CLUTTER[clutter]) == dataset.quarantined
    assert set(kept_out["kind"]) <= {"hidden", "not_an_image", "truncated"}


def test_split_folders_beside_clutter_stay_split_folders(home: Workspace) -> None:
    files = {f"{split}/{path}": png(f"{split} {path}") for split in ("train", "dev", "test") for path in pictures()}
    write(home.root / "split", files | {"__MACOSX/train/a/._1.png": b"fork", "notes/labels.csv": b"a,b"})
    manifest = ingested(home, folder="split").read_manifest()
    assert set(manifest["path"]) == set(files)
    folders = manifest["path"].str.split("/").str[0]
    assert manifest["split"].tolist() == folders.replace("dev", "val").tolist()


def test_strays_are_told_with_the_layout_that_they_do_not_fit(home: Workspace) -> None:
    write(home.root / "strays", pictures() | {"stray.png": png("stray"), "a/notes.txt": b"text", "labels.csv": b"a,b"})
    dataset = ingested(home, folder="strays")
    kept_out = pd.read_csv(dataset.report / "quarantine.csv").set_index("path")
    assert kept_out["kind"].to_dict() == {
        "stray.png": "no_label", "a/notes.txt": "not_an_image", "labels.csv": "not_an_image",
    }  # fmt: skip
    assert kept_out.loc["stray.png", "reason"] == "stands in no class folder (layout: label)"
    assert len(dataset.read_manifest()) == 24


def test_unlabelled_images_make_up_the_pool(home: Workspace) -> None:
    write(home.root / "half", pictures() | {f"Unlabelled/{number}.png": png(f"pool {number}") for number in range(5)})
    dataset = ingested(home, folder="half")
    manifest = dataset.read_manifest()
    assert dataset.counts["pool"] == 5 and dataset.classes == ("a", "b") and dataset.quarantined == 0
    assert (manifest["label"].isna() == (manifest["split"] == "pool")).all()


def test_tables_give_their_labels_whatever_their_folders_are_called(home: Workspace) -> None:
    write(home.root / "listed", pictures("test/"))
    rows = [f"{path},{'xy'[number % 2]}" for number, path in enumerate(pictures("test/"))]
    (home.root / "listed" / "labels.csv").write_text("\n".join(["path,label", *rows]))
    manifest = ingested(home, table="listed/labels.csv").read_manifest()
    assert set(manifest["label"]) == {"x", "y"} and set(manifest["split"]) == {"train", "val", "test"}
    assert set(manifest["path"]) == set(pictures("test/"))


def test_size_in_the_manifest_is_that_of_the_upright_image(home: Workspace) -> None:
    write(home.root / "turned", pictures() | {f"a/{number}.jpg": turned(f"{number}", number) for number in range(1, 9)})
    manifest = ingested(home, folder="turned").read_manifest().set_index("path")
    width, height = picture("1").size
    for number in range(1, 9):
        upright = (height, width) if number >= 5 else (width, height)
        assert tuple(manifest.loc[f"a/{number}.jpg", ["width", "height"]]) == upright


def test_tree_without_images_in_class_folders_is_a_data_error(home: Workspace) -> None:
    (home.root / "empty").mkdir()
    with pytest.raises(DataError, match=r"folder:empty is empty: no images in class folders \(class/\*\.jpg or"):
        ingested(home, folder="empty")
    write(home.root / "flat", {"1.png": png("1"), "2.png": png("2")})
    with pytest.raises(
        DataError, match=r"no images in class folders .*2 images that stand in no class folder.* 1\.png"
    ):
        ingested(home, folder="flat")


def test_nothing_decodable_is_a_data_error_that_counts_what_was_found(home: Workspace) -> None:
    write(home.root / "bad", {"a/1.png": b"no image", "a/2.png": b"", "b/3.png": b"nor this", "b/.hidden": b"x"})
    with pytest.raises(DataError) as told:
        ingested(home, folder="bad")
    for words in ("2 files that are no images", "1 files of zero bytes", "1 hidden files", "the first: a/1.png"):
        assert words in str(told.value)
