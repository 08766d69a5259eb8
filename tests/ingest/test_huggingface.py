"""Datasets of Hugging Face's library, read from folders without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tasks.errors import ConfigurationError, DataError
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.kinds import Problem
from tasks.ingest.sources import Item, read_source
from tasks.workspace import Workspace
from tests.ingest.pictures import encoded, picture, png

FEATURES = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee"])})


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    yield


def items(workspace: Workspace, **options: Any) -> list[Item]:
    return list(read_source({"huggingface": "there", **options}).items(workspace))


def dataset(labels: list[int | None], start: int = 0) -> datasets.Dataset:
    rows = [
        {"image": {"bytes": png(f"{start + index}"), "path": None}, "label": label}
        for index, label in enumerate(labels)
    ]
    return datasets.Dataset.from_list(rows, features=FEATURES)


def write(workspace: Workspace, table: pa.Table, name: str = "train.parquet") -> Path:
    (workspace.root / "there").mkdir(exist_ok=True)
    parquet.write_table(table, workspace.root / "there" / name)
    return workspace.root / "there" / name


def test_saved_dataset_is_read_with_its_splits_and_names_of_classes(workspace: Workspace) -> None:
    saved = datasets.DatasetDict({"train": dataset([0, 1]), "validation": dataset([1], 2), "test": dataset([0], 3)})
    saved.save_to_disk(str(workspace.root / "there"))
    found = items(workspace)
    assert [(item.path, item.split, item.labels) for item in found] == [
        ("train/0000000.png", "train", ("ant",)), ("train/0000001.png", "train", ("bee",)),
        ("validation/0000000.png", "val", ("bee",)), ("test/0000000.png", "test", ("ant",)),
    ]  # fmt: skip
    assert [item.content for item in found] == [png(f"{index}") for index in range(4)]


def test_an_evaluation_beside_a_validation_is_the_test(workspace: Workspace) -> None:
    saved = datasets.DatasetDict({"train": dataset([0]), "dev": dataset([1], 1), "eval": dataset([0], 2)})
    saved.save_to_disk(str(workspace.root / "there"))
    assert [item.split for item in items(workspace)] == ["train", "val", "test"]


def test_saved_dataset_without_splits_has_none(workspace: Workspace) -> None:
    dataset([0, 1]).save_to_disk(str(workspace.root / "there"))
    assert [(item.path, item.split) for item in items(workspace)] == [
        ("all/0000000.png", None),
        ("all/0000001.png", None),
    ]


def test_parquet_files_are_read_with_their_bytes(workspace: Workspace) -> None:
    for split, start in (("train", 0), ("test", 2)):
        path = workspace.root / "there" / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset([0, 1], start).to_parquet(str(path))
    found = items(workspace)
    assert [(item.split, item.labels) for item in found] == [
        (split, (label,)) for split in ("train", "test") for label in ("ant", "bee")
    ]
    assert [item.content for item in found] == [png(f"{index}") for index in range(4)]


def test_missing_labels_make_unlabelled_images(workspace: Workspace) -> None:
    dataset([0, None, -1]).save_to_disk(str(workspace.root / "there"))
    assert [item.labels for item in items(workspace)] == [("ant",), None, None]


def test_image_folder_is_read_where_it_lies(workspace: Workspace) -> None:
    names = ["train/ant/1.png", "train/bee/2.png", "test/ant/3.png", "test/bee/4.png"]
    for name in names:
        (workspace.root / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace.root / "there" / name).write_bytes(png(name))
    found = items(workspace)
    assert [item.place for item in found] == [str(workspace.root / "there" / name) for name in names]
    assert [(item.split, item.labels) for item in found] == [
        (name.split("/")[0], (name.split("/")[1],)) for name in names
    ]


def test_columns_are_named_where_there_are_several(workspace: Workspace) -> None:
    features = datasets.Features({
        "left": datasets.Image(), "right": datasets.Image(), "kind": datasets.Value("string"),
        "site": datasets.Value("string"), "who": datasets.Value("int64"),
    })  # fmt: skip
    row = {"left": {"bytes": png("left"), "path": None}, "right": {"bytes": png("right"), "path": None},
           "kind": "wasp", "site": "wood", "who": 7}  # fmt: skip
    datasets.Dataset.from_list([row], features=features).save_to_disk(str(workspace.root / "there"))
    with pytest.raises(ConfigurationError, match=r"ingest\.source\.image: name the column .* left, right, kind"):
        items(workspace)
    with pytest.raises(ConfigurationError, match="no column 'middle'"):
        items(workspace, image="middle")
    (item,) = items(workspace, image="right", label="kind", domain="site", group="who")
    assert (item.content, item.labels, item.domain, item.group) == (png("right"), ("wasp",), "wood", "7")


def test_lists_of_classes_are_several_labels(workspace: Workspace) -> None:
    classes = datasets.Sequence(datasets.ClassLabel(names=["ant", "bee", "wasp"]))
    features = datasets.Features({"image": datasets.Image(), "labels": classes})
    rows = [{"image": {"bytes": png(f"{labels}"), "path": None}, "labels": labels} for labels in ([2, 0], [], [1])]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(workspace.root / "there"))
    found = items(workspace, label="labels", multi_label=True)
    assert [item.labels for item in found] == [("wasp", "ant"), (), ("bee",)]


def test_columns_may_be_several_tasks(workspace: Workspace) -> None:
    features = datasets.Features({
        "image": datasets.Image(), "kind": datasets.ClassLabel(names=["ant", "bee"]), "age": datasets.Value("float64"),
        "tags": datasets.Sequence(datasets.ClassLabel(names=["x", "y"])),
    })  # fmt: skip
    told = [(0, -1.0, [1]), (-1, 0.1, []), (1, None, None), (1, float("inf"), [])]
    rows = [{"image": {"bytes": png(f"{n}"), "path": None}, "kind": kind, "age": age, "tags": tags}
            for n, (kind, age, tags) in enumerate(told)]  # fmt: skip
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(workspace.root / "there"))
    tasks = {"kind": "kind", "age": {"column": "age", "kind": "number"}, "tags": {"column": "tags", "kind": "labels"}}
    found = items(workspace, label=tasks)
    assert [(item.labels, item.further) for item in found[:3]] == [
        (("ant",), {"age": -1.0, "tags": ("y",)}), (None, {"age": 0.1, "tags": ()}), (("bee",), {}),
    ]  # fmt: skip
    assert found[3].problem == Problem("bad_row", "age holds 'inf' where a number is expected")
    with pytest.raises(ConfigurationError, match=r"ingest\.source\.label: no column 'height'"):
        items(workspace, label={"height": {"column": "height", "kind": "number"}})


def saved(workspace: Workspace, rows: list[dict[str, Any]], labels: Any, where: str = "there") -> None:
    """Save a dataset of these rows, each with an image of its own, the columns ``label``, ``site`` and ``who``."""
    features = datasets.Features({
        "image": datasets.Image(), "label": labels, "site": datasets.Value("string"), "who": datasets.Value("float64"),
    })  # fmt: skip
    filled = [{"image": {"bytes": png(f"{n}"), "path": None}, "label": None, "site": None, "who": None} | row
              for n, row in enumerate(rows)]  # fmt: skip
    datasets.Dataset.from_list(filled, features=features).save_to_disk(str(workspace.root / where))


def test_what_says_nothing_is_no_label_no_group_and_no_domain(workspace: Workspace) -> None:
    rows = [
        {"label": "cat", "site": "wood", "who": 7.0},
        {"label": "", "site": " "},
        {"label": "dog ", "site": "wood "},
    ]
    saved(workspace, rows, datasets.Value("string"))
    found = items(workspace, label="label", domain="site", group="who")
    assert [(item.labels, item.domain, item.group) for item in found] == [
        (("cat",), "wood", "7"), (None, None, None), (("dog",), "wood", None),
    ]  # fmt: skip


def test_domains_and_groups_that_are_counted_have_their_names(workspace: Workspace) -> None:
    features = datasets.Features({
        "image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee"]),
        "site": datasets.ClassLabel(names=["wood", "lake"]), "who": datasets.ClassLabel(names=["ada", "bob"]),
    })  # fmt: skip
    rows = [
        {"image": {"bytes": png(f"{n}"), "path": None}, "label": 0, "site": site, "who": who}
        for n, (site, who) in enumerate([(0, 1), (1, 0), (-1, None)])
    ]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(workspace.root / "there"))
    found = items(workspace, label="label", domain="site", group="who")
    assert [(item.domain, item.group) for item in found] == [("wood", "bob"), ("lake", "ada"), (None, None)]


def test_what_says_nothing_in_a_list_is_no_label(workspace: Workspace) -> None:
    classes = datasets.Sequence(datasets.ClassLabel(names=["ant", "bee"]))
    saved(workspace, [{"label": [1, -1]}, {"label": [-1]}, {"label": None}], classes)
    found = items(workspace, label="label", multi_label=True)
    assert [item.labels for item in found] == [("bee",), (), None]
    saved(workspace, [{"label": [" x", None, ""]}], datasets.Sequence(datasets.Value("string")), "words")
    (item,) = items(workspace, huggingface="words", label="label", multi_label=True)
    assert item.labels == ("x",)


@pytest.mark.parametrize("key", ["image", "label", "domain", "group"])
def test_a_column_that_is_named_and_not_there_is_a_configuration_error(key: str, workspace: Workspace) -> None:
    saved(workspace, [{"label": "cat"}], datasets.Value("string"))
    with pytest.raises(ConfigurationError, match=rf"ingest\.source\.{key}: no column 'lable'; there are image, label"):
        items(workspace, **{key: "lable"})


def test_a_split_may_lack_columns_that_another_has(workspace: Workspace) -> None:
    bare = dataset([0], 1).remove_columns("label")
    datasets.DatasetDict({"train": dataset([1]), "test": bare}).save_to_disk(str(workspace.root / "there"))
    assert [item.labels for item in items(workspace, label="label", group="label")] == [("bee",), None]


def test_files_are_called_by_what_they_are(workspace: Workspace) -> None:
    formats = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "TIFF": "tif", "BMP": "bmp"}
    rows = [{"bytes": encoded(picture(name), name), "path": "x.dat"} for name in formats] + [
        {"bytes": b"none", "path": "x.dat"}
    ]
    write(workspace, pa.table({"image": rows, "label": [0] * 7}, schema=FEATURES.arrow_schema))
    assert [item.path.rpartition(".")[2] for item in items(workspace)] == [*formats.values(), "dat"]


def test_rows_lead_to_no_file_outside_of_the_folder(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace.root)
    for name in ("secret.png", "there/inside.png"):
        (workspace.root / name).parent.mkdir(exist_ok=True)
        (workspace.root / name).write_bytes(png(name))
    outside = [str(workspace.root / "secret.png"), "secret.png", "../secret.png", "inside.png/../../secret.png",
               "https://localhost/1.png", "zip://1.png::../a.zip", "gone.png"]  # fmt: skip
    rows = [*({"bytes": None, "path": path} for path in (*outside, "inside.png", None)), None]
    write(workspace, pa.table({"image": rows, "label": [0] * 10}, schema=FEATURES.arrow_schema))
    found = items(workspace)
    kinds = [item.problem and item.problem.kind for item in found]
    assert kinds == ["unsafe_path"] * len(outside) + [None, "missing", "missing"]
    assert found[-3].place == str(workspace.root / "there" / "inside.png")


@pytest.mark.parametrize("damage", ["cut", "scrambled"])
def test_damaged_parquet_file_is_a_data_error(damage: str, workspace: Workspace) -> None:
    path = write(workspace, dataset([0, 1]).data.table)
    content = path.read_bytes()
    middle = content[:4] + bytes(3000) + content[3004:]
    path.write_bytes(content[: len(content) // 2] if damage == "cut" else middle)
    with pytest.raises(DataError, match=r"ingest\.source\.huggingface: there cannot be (loaded|read to its end)"):
        items(workspace)


def test_scripts_are_not_run(workspace: Workspace) -> None:
    (workspace.root / "there").mkdir()
    (workspace.root / "there" / "there.py").write_text(f"open({str(workspace.root / 'ran')!r}, 'w')")
    with pytest.raises(DataError, match="cannot be loaded"):
        items(workspace)
    assert not (workspace.root / "ran").exists()


def test_folder_or_name_that_nobody_has_is_a_data_error(workspace: Workspace) -> None:
    with pytest.raises(DataError, match="there cannot be loaded"):
        items(workspace)
    (workspace.root / "there").mkdir()
    with pytest.raises(DataError, match="there cannot be loaded"):
        items(workspace)


def test_state_changes_with_the_files_and_with_the_revision(workspace: Workspace) -> None:
    path = write(workspace, dataset([0, 1]).data.table)

    def state(**options: str) -> str:
        return read_source({"huggingface": "there", **options}).state(workspace)

    states = [state(), state(revision="abc"), state(label="x")]
    write(workspace, dataset([0, 1, 1]).data.table)
    states.append(state())
    shutil.move(path, path.with_name("test.parquet"))
    states.append(state())
    assert len(set(states)) == 5 and state() == states[-1]


def test_where_no_column_is_the_labels_the_columns_are_told(workspace: Workspace) -> None:
    rows = [{"image": {"bytes": png(f"{index}"), "path": None}, "labels": "cat"} for index in range(3)]
    features = datasets.Features({"image": datasets.Image(), "labels": datasets.Value("string")})
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(workspace.root / "there"))
    config = IngestConfig.model_validate({"source": {"huggingface": "there"}})
    with pytest.raises(DataError, match="names the column of labels; there are image, labels"):
        ingest_images(config, workspace)
