"""Findings about classes: without images, absent from a split that counts, alike in name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.errors import DataError
from tasks.ingest.classes import readable
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.kinds import CLASSES
from tasks.records import Dataset
from tasks.workspace import Workspace
from tests.ingest.pictures import png, tarred, zipped

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("home"))


def tree(classes: Mapping[str, str], splits: tuple[str, ...] = SPLITS) -> dict[str, bytes]:
    """Four images of each class in those of the splits that it has."""
    return {
        f"{split}/{name}/{number}.png": png(f"{split} {name} {number}")
        for split in splits for name, where in classes.items() if split in where for number in range(4)
    }  # fmt: skip


def grow(root: Path, files: Mapping[str, bytes], folders: tuple[str, ...] = ()) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    for name in folders:
        (root / name).mkdir(parents=True, exist_ok=True)


def ingested(workspace: Workspace, checks: Mapping[str, str] | None = None, **source: Any) -> Dataset:
    config = IngestConfig.model_validate({"source": source, "checks": checks or {}})
    return ingest_images(config, workspace, into_data=False)


def found(dataset: Dataset) -> dict[str, list[str]]:
    """What is told of classes, by kind."""
    findings = json.loads((dataset.report / "checks.json").read_text())["findings"]
    return {kind: findings[kind]["examples"] for kind in CLASSES if kind in findings}


def test_a_class_without_a_training_image_is_told_of_its_name_in_other_capitals(home: Workspace) -> None:
    grow(home.root / "capitals", tree({"Cat": "train val", "cat": "test", "dog": "train val test"}))
    told = r"image for cat: may be one class: 'Cat' \(8\), 'cat' \(4\)\. Give each class one name, or give more images"
    with pytest.raises(DataError, match=told):
        ingested(home, folder="capitals")


def test_a_class_without_a_training_image_is_told_of_its_images_where_the_source_gives_the_splits(
    home: Workspace,
) -> None:
    grow(home.root / "untrained", tree({"cat": "train val test", "dog": "train val test", "emu": "val test"}))
    told = (
        r"image for emu: give more images of it, or remove the class: of emu the source has test/emu/0\.png, in test$"
    )
    with pytest.raises(DataError, match=told):
        ingested(home, folder="untrained")
    rows = [f"{name},{name.split('/')[1]},{name.split('/')[0]}" for name in tree({"cat": "train val", "emu": "test"})]
    (home.root / "untrained" / "labels.csv").write_text("\n".join(["path,label,split", *rows]))
    grow(home.root / "untrained", tree({"cat": "train val", "emu": "test"}))
    for more in ({}, {"separator": ";"}):
        with pytest.raises(
            DataError, match=r"for emu: give more .* class: of emu the source has test/emu/0\.png, in test$"
        ):
            ingested(home, table="untrained/labels.csv", **more)


def test_where_the_source_gives_the_splits_the_advice_is_not_to_do_away_with_them(home: Workspace) -> None:
    grow(home.root / "no train", tree({"cat": "val test", "dog": "val test"}))
    with pytest.raises(DataError, match="no image falls into the split 'train'") as told:
        ingested(home, folder="no train")
    assert "stratified" not in str(told.value)


def test_nothing_is_told_of_classes_that_are_everywhere(home: Workspace) -> None:
    grow(home.root / "whole", tree({"cat": "train val test", "dog": "train val test"}))
    assert found(ingested(home, folder="whole")) == {}


def test_classes_without_images_in_val_or_test_are_named(home: Workspace) -> None:
    grow(home.root / "gaps", tree({"cat": "train val test", "dog": "train val", "emu": "train", "fox": "train test"}))
    dataset = ingested(home, folder="gaps")
    told = ["dog: no image in test", "emu: no image in val and test", "fox: no image in val"]
    assert found(dataset) == {"absent_class": told}
    assert f"3 {CLASSES['absent_class']}: dog, emu, fox" in dataset.findings
    table = pd.read_csv(dataset.report / "checks.csv").set_index("finding")
    assert table.loc["absent_class", "example"] == "; ".join(told)


def test_class_is_absent_from_the_splits_that_choices_and_the_figure_come_from(home: Workspace) -> None:
    grow(home.root / "no test", tree({"cat": "train val", "dog": "train val", "emu": "train"}, ("train", "val")))
    assert "emu: no image in val" in found(ingested(home, folder="no test"))["absent_class"]


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_empty_class_folders_are_named_once_and_counted_nowhere(kind: str, home: Workspace) -> None:
    files = tree({"cat": "train val test", "dog": "train val test"})
    if kind == "folder":
        grow(home.root / "empty", files, ("train/bird", "val/bird/deeper", "test/cat/nothing"))
        dataset = ingested(home, folder="empty")
    elif kind == "tar":
        import tarfile

        folders = {name: (tarfile.DIRTYPE, "") for name in ("train", "train/cat", "train/bird", "val/bird")}
        (home.root / "empty.tar").write_bytes(tarred(folders | files))
        dataset = ingested(home, archive="empty.tar")
    else:
        (home.root / "empty.zip").write_bytes(zipped({"train/cat/": b"", "train/bird/": b"", **files}))
        dataset = ingested(home, archive="empty.zip")
    assert found(dataset) == {"empty_class": ["bird: no image of it can be used"]}
    checks = json.loads((dataset.report / "checks.json").read_text())
    assert checks["items"] == checks["images"] == len(files) and dataset.quarantined == 0


def test_folders_kept_by_hidden_files_are_empty_and_those_of_annotations_no_classes(home: Workspace) -> None:
    beside = {"train/bird/.gitkeep": b"", "train/.DS_Store": b"x", "labels/train/cat.txt": b"0 .5", ".git/x": b"y"}
    clutter = {"train/cat/@eaDir/1.txt": b"", "__MACOSX/train/emu/._1.png": b""}
    grow(home.root / "kept", tree({"cat": "train val test", "dog": "train val test"}) | beside | clutter)
    assert found(ingested(home, folder="kept")) == {"empty_class": ["bird: no image of it can be used"]}


def test_class_all_of_whose_images_are_kept_out_is_named(home: Workspace) -> None:
    broken = {f"train/bird/{number}.png": png(f"{number}")[:99] for number in range(3)}
    twins = {f"{split}/{name}/twin.png": png("twin") for split, name in (("train", "emu"), ("val", "fox"))}
    notes = {"annotations/1.xml": b"<xml/>", "train/cat/notes.txt": b"text"}
    grow(home.root / "broken", tree({"cat": "train val test", "dog": "train val test"}) | broken | twins | notes)
    told = [f"{name}: no image of it can be used" for name in ("bird", "emu", "fox")]
    assert found(ingested(home, folder="broken")) == {"empty_class": told}


def test_look_alike_names_are_named_together(home: Workspace) -> None:
    names = ["Cat", "cat", "CAT ", "café", "cafe\u0301", "dog", "1", "1.0"]
    grow(home.root / "alike", tree(dict.fromkeys(names, "train val test")))
    dataset = ingested(home, folder="alike")
    assert found(dataset) == {"similar_classes": [
        "'1', '1.0': may be one class: '1' (12), '1.0' (12)",
        "'CAT ', 'Cat', 'cat': may be one class: 'CAT ' (12), 'Cat' (12), 'cat' (12)",
        r"'cafe\u0301', 'café': may be one class: 'cafe\u0301' (12), 'café' (12)",
    ]}  # fmt: skip
    assert set(dataset.classes) == set(names)


def test_labels_of_tables_are_looked_at_too(home: Workspace) -> None:
    files = {f"{number}.png": png(f"listed {number}") for number in range(40)}
    rows = [f"{name},{['cat', 'Cat'][number % 2]}" for number, name in enumerate(files)]
    grow(home.root / "listed", files | {"labels.csv": "\n".join(["path,label", *rows, "gone.png,emu"]).encode()})
    told = found(ingested(home, table="listed/labels.csv"))
    assert told["similar_classes"][0].startswith("'Cat', 'cat': may be") and told["empty_class"][0].startswith("emu:")


def test_each_of_several_labels_counts(home: Workspace) -> None:
    files = {f"{number}.png": png(f"several {number}") for number in range(40)}
    rows = [f"{name},{'a;b' if number % 2 else 'a' if number else 'a;c'}" for number, name in enumerate(files)]
    grow(home.root / "several", files | {"labels.csv": "\n".join(["path,label", *rows]).encode()})
    config = {"source": {"table": "several/labels.csv", "separator": ";"}, "split": {"by": "stratified"}}
    dataset = ingest_images(IngestConfig.model_validate(config), home, into_data=False)
    assert "c: no image in val and test" in found(dataset)["absent_class"] or "c" not in dataset.classes
    counts = pd.read_csv(dataset.report / "classes.csv").set_index("class").sum(axis=1)
    assert counts.to_dict() == {"a": 40, "b": 20, "c": 1}


def test_counts_of_classes_are_a_table_of_the_report(home: Workspace) -> None:
    grow(home.root / "counted", tree({"cat": "train val test", "dog": "train val test", "emu": "train"}))
    counts = pd.read_csv(ingested(home, folder="counted").report / "classes.csv").set_index("class")
    assert counts.to_dict("index") == {
        "cat": dict.fromkeys(SPLITS, 4), "dog": dict.fromkeys(SPLITS, 4), "emu": {"train": 4, "val": 0, "test": 0},
    }  # fmt: skip


@pytest.mark.parametrize("kind", CLASSES)
def test_policy_fail_stops_at_what_is_odd_about_classes(kind: str, home: Workspace) -> None:
    grow(home.root / "odd", tree({"cat": "train val test", "Cat": "train val test", "emu": "train"}), ("train/gnu",))
    named = {"empty_class": r"gnu \(no image", "absent_class": r"emu \(no", "similar_classes": r"'Cat', 'cat' \(may"}
    with pytest.raises(
        DataError, match=rf"1 {CLASSES[kind]}: {named[kind]}.*ingest.checks.{kind} is fail; warn goes on"
    ):
        ingested(home, {kind: "fail"}, folder="odd")


def test_source_that_gets_an_empty_class_folder_has_changed(home: Workspace) -> None:
    grow(home.root / "grows", tree({"cat": "train val test", "dog": "train val test"}))
    source = IngestConfig.model_validate({"source": {"folder": "grows"}}).source
    before = source.state(home)
    grow(home.root / "grows", {}, ("train/bird",))
    assert source.state(home) != before


def test_names_show_how_they_differ() -> None:
    assert [readable(name) for name in ("cat ", "cat\u00a0", "café", "cafe\u0301", "貓")] == [
        "'cat '", r"'cat\xa0'", "'café'", r"'cafe\u0301'", "'貓'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("folders", "layout", "told"),
    [
        ("cat/p1 cat/p2 dog/p3 dog/p4", "auto", "4 folders below 2 classes: cat/p1, cat/p2, dog/p3"),
        ("train/cat/p1 train/cat/p2 train/dog/p3 test/cat/p4 test/dog/p5", "auto", "5 folders below 2 classes"),
        (" ".join(f"{name}/{name}{number}" for name in ("cat", "dog") for number in range(12)), "label/group", ""),
        ("cat/p1 cat/p2 dog/p3 dog/p4", "'*/label'", ""),
        ("cat/images dog/images", "auto", ""),
        ("cat/train cat/test dog/train dog/test", "auto", ""),
        ("cat dog cat/odd cat/few", "auto", ""),
    ],
)
def test_folders_below_those_of_classes_are_told_of(folders: str, layout: str, told: str, home: Workspace) -> None:
    root = f"deeper {folders[:40]} {layout}".translate(str.maketrans("/*", "--"))
    files = {f"{name}/{number}.png": png(f"{name} {number}") for name in folders.split() for number in range(12)}
    grow(home.root / root, files)
    dataset = ingested(home, folder=root, layout=layout.strip("'"))
    findings = json.loads((dataset.report / "checks.json").read_text())["findings"]
    assert ("deeper_folders" in findings) == bool(told)
    assert not told or findings["deeper_folders"]["examples"][0].startswith(told)
