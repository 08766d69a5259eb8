"""Corrected labels: applied to whatever brings the image again, and refused in a line where they cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tasks.errors import DataError
from tasks.ingest.config import IngestConfig
from tasks.ingest.corrections import (
    CORRECTIONS,
    Correction,
    _plain,
    _read,
    corrections_state,
    read_corrections,
    write_corrections,
)
from tasks.ingest.door import ingest_images
from tasks.ingest.relabel import read_review
from tasks.records import Dataset
from tasks.workspace import Workspace
from tests.ingest.pictures import png


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("ant", "bee"):
        (folder := tmp_path / "images" / name).mkdir(parents=True)
        for index in range(20):
            (folder / f"{index}.png").write_bytes(png(f"{name}{index}", 12))
    return tmp_path / "images"


def ingested(source: Path, workspace: Workspace) -> Dataset:
    return ingest_images(
        IngestConfig.model_validate({"source": {"folder": str(source)}, "split": {"by": "stratified"}}),
        workspace,
        into_data=False,
    )


def listed(dataset: Dataset, file: Path, edits: dict[str, str], **columns: str) -> Path:
    """A list of all images, into which somebody wrote labels by path."""
    rows = dataset.read_manifest()[["label", "path", "hash"]].assign(was=lambda rows: rows["label"])
    rows["label"] = [edits.get(path, label) for path, label in zip(rows["path"], rows["label"], strict=True)]
    rows.assign(**columns).to_csv(file, index=False)
    return file


def corrected(dataset: Dataset, file: Path, workspace: Workspace, edits: dict[str, str]) -> None:
    found = read_review(listed(dataset, file, edits), dataset.read_manifest(), read_corrections(workspace))
    write_corrections(workspace, found)


def labels(dataset: Dataset) -> dict[str, str]:
    manifest = dataset.read_manifest()
    return dict(zip(manifest["path"], manifest["label"], strict=True))


def test_a_correction_holds_wherever_the_image_comes_from(source: Path, workspace: Workspace, tmp_path: Path) -> None:
    before = ingested(source, workspace)
    assert corrections_state(workspace) is None
    corrected(before, tmp_path / "list.csv", workspace, {"ant/3.png": "bee", "bee/4.png": ""})
    after = ingested(source, workspace)
    assert labels(after) == {path: label for path, label in labels(before).items() if path != "bee/4.png"} | {
        "ant/3.png": "bee"
    }
    assert after.version != before.version and after.fingerprint != before.fingerprint
    assert set(after.findings) >= {
        "1 labels corrected by data.labels.csv",
        "1 images that data.labels.csv leaves out: kept out",
    }
    assert pd.read_csv(after.report / "quarantine.csv")[["path", "kind"]].values.tolist() == [["bee/4.png", "left_out"]]

    (source / "ant" / "3.png").rename(source / "ant" / "renamed.png")
    assert labels(ingested(source, workspace))["ant/renamed.png"] == "bee"


def test_an_image_that_bears_another_label_meanwhile_is_left_alone(
    source: Path, workspace: Workspace, tmp_path: Path
) -> None:
    corrected(ingested(source, workspace), tmp_path / "list.csv", workspace, {"ant/3.png": "bee"})
    (source / "cow").mkdir()
    for index in range(10, 20):
        (source / "cow" / f"{index}.png").write_bytes(png(f"cow{index}", 12))
    (source / "ant" / "3.png").rename(source / "cow" / "3.png")
    found = ingested(source, workspace)
    assert labels(found)["cow/3.png"] == "cow"
    assert any(line.startswith("1 images whose label is not the one that data.labels.csv") for line in found.findings)
    # Where the source was corrected in the same way, there is nothing to say.
    (source / "cow" / "3.png").rename(source / "bee" / "like-corrected.png")
    assert not any("data.labels.csv" in line for line in ingested(source, workspace).findings)


def test_copies_that_contradict_each_other_do_not_once_one_is_corrected(
    source: Path, workspace: Workspace, tmp_path: Path
) -> None:
    before = ingested(source, workspace)
    corrected(before, tmp_path / "list.csv", workspace, {"ant/3.png": "bee"})
    (source / "bee" / "copy.png").write_bytes(png("ant3", 12))
    found = ingested(source, workspace)
    assert not any("under different labels" in line for line in found.findings)


def test_a_correction_of_a_correction_begins_at_what_the_source_says(
    source: Path, workspace: Workspace, tmp_path: Path
) -> None:
    corrected(ingested(source, workspace), tmp_path / "list.csv", workspace, {"ant/3.png": "bee", "ant/5.png": "bee"})
    again = ingested(source, workspace)
    corrected(again, tmp_path / "list.csv", workspace, {"ant/3.png": "", "ant/5.png": "ant"})
    kept = read_corrections(workspace)
    assert [(each.path, each.label, each.was) for each in kept.values()] == [("ant/3.png", None, "ant")]
    # A list that has been applied already changes nothing.
    file = listed(again, tmp_path / "old.csv", {}, was="ant")
    assert read_review(file, again.read_manifest(), kept) == kept


def test_several_labels_are_lists(tmp_path: Path, workspace: Workspace) -> None:
    rows = []
    for index in range(30):
        (tmp_path / f"{index}.png").write_bytes(png(f"several{index}", 12))
        rows.append({"path": f"{index}.png", "label": "ant Ärmel" if index % 2 else "bee"})
    (tmp_path / "table.csv").write_text(pd.DataFrame(rows).to_csv(index=False))
    config = IngestConfig.model_validate({"source": {"table": str(tmp_path / "table.csv"), "separator": " "}})
    before = ingest_images(config, workspace, into_data=False)
    manifest = before.read_manifest()
    table = manifest[["path", "hash"]].assign(was=[json.dumps(list(label)) for label in manifest["label"]])
    table["label"] = [
        {"1.png": '["Ärmel"]', "2.png": "bee", "3.png": "[]"}.get(path, was)
        for path, was in zip(table["path"], table["was"], strict=True)
    ]
    table.to_csv(tmp_path / "list.csv", index=False)
    write_corrections(workspace, read_review(tmp_path / "list.csv", manifest, {}))
    after = labels(ingest_images(config, workspace, into_data=False))
    assert list(after["1.png"]) == ["Ärmel"] and list(after["2.png"]) == ["bee"] and list(after["3.png"]) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hash": "0" * 32}, "row 2 (ant/0.png): the version has no labelled image of content '0000"),
        ({"path": "x.png"}, "is called ant/0.png"),
        ({"label": "cow"}, "there is no class 'cow' among ant, bee; --new-classes takes it in"),
        ({"was": "cow"}, "its label is ant now, not cow"),
    ],
)
def test_what_cannot_be_applied_is_told_in_a_line(
    source: Path, workspace: Workspace, tmp_path: Path, change: dict[str, str], told: str
) -> None:
    manifest = ingested(source, workspace).read_manifest()
    row = manifest[manifest["path"] == "ant/0.png"][["path", "hash"]].assign(was="ant", label="bee")
    row.assign(**change).to_csv(tmp_path / "list.csv", index=False)
    with pytest.raises(DataError) as error:
        read_review(tmp_path / "list.csv", manifest, {})
    assert told in str(error.value) and "\n" not in str(error.value)
    if "label" in change:
        assert next(iter(read_review(tmp_path / "list.csv", manifest, {}, new_classes=True).values())).label == "cow"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("label,was\n", "lacks the columns path, hash; it needs label, was, path, hash"),
        ("label,was,path,hash\na,b,c\n", "row 2: it has more or fewer cells"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_list_is_told_in_a_line(tmp_path: Path, content: str | None, told: str) -> None:
    if content is not None:
        (tmp_path / "list.csv").write_text(content)
    with pytest.raises(DataError, match=told):
        read_review(tmp_path / "list.csv", pd.DataFrame({"path": ["x"], "label": ["a"], "hash": ["0"]}), {})


def test_spaces_that_belong_to_a_class_are_read_and_others_are_not(tmp_path: Path) -> None:
    rows = ["cat,cat ,x,0", " cat , dog,y,1", "cat ,cat ,z,2", "cat ,dog,w,3"]
    (tmp_path / "list.csv").write_text("\n".join(["label,was,path,hash", *rows]))
    manifest = pd.DataFrame({"path": [*"xyzwv"], "label": ["cat ", "dog", "cat ", "dog", "cat"], "hash": [*"01234"]})
    found = {each.hash: (each.was, each.label) for each in read_review(tmp_path / "list.csv", manifest, {}).values()}
    assert found == {"0": ("cat ", "cat"), "1": ("dog", "cat"), "3": ("dog", "cat ")}


@pytest.mark.parametrize("label", ["[dog, pet]", "[1, 2]", '[["dog"]]'])
def test_a_list_of_labels_that_is_none_is_told_where_it_is_of_these_images(label: str) -> None:
    with pytest.raises(DataError, match=r"^data\.labels\.csv: the label \["):
        _plain(label, "labels")
    assert _read(label, "labels") == label, "it may be of another dataset"
    assert _plain('["pet", "cat", "pet"]', "labels") == '["cat", "pet"]' and _plain("dog", "labels") == '["dog"]'


def test_corrections_of_classes_do_not_end_a_dataset_of_numbers(tmp_path: Path, workspace: Workspace) -> None:
    for index in range(20):
        (tmp_path / f"{index}.png").write_bytes(png(f"numbers{index}", 12))
    rows = [{"path": f"{index}.png", "age": index} for index in range(20)]
    pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
    label = {"age": {"column": "age", "kind": "number"}}
    config = IngestConfig.model_validate({"source": {"table": str(tmp_path / "table.csv"), "label": label}})
    manifest = ingest_images(config, workspace, into_data=False).read_manifest()
    (workspace.root / CORRECTIONS).write_text("path,label,was,hash\nx.png,dog,cat,0123\n,,,\n")
    assert len(ingest_images(config, workspace, into_data=False).read_manifest()) == len(manifest)
    row = manifest.iloc[0]
    with (workspace.root / CORRECTIONS).open("a") as file:
        file.write(f"{row['path']},dog,{row['label']:g},{row['hash']}\n")
    with pytest.raises(DataError, match="the label dog"):
        ingest_images(config, workspace, into_data=False)


def test_a_class_that_looks_like_a_list_keeps_its_spelling() -> None:
    assert _plain("[0,10]", "class") == "[0,10]" and _plain('["a","b"]', "labels") == '["a", "b"]'


def test_names_with_ends_of_lines_are_kept_in_corrections(workspace: Workspace) -> None:
    kept = {(each.hash, each.was): each for each in (Correction("0", "a\rb", "cat\r", "cat\r/x\n.png"),)}
    write_corrections(workspace, kept)
    assert read_corrections(workspace) == kept


def test_a_list_that_a_spreadsheet_saved_is_read(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("label;was;path;hash\r\nb;a;x;0\r\n", encoding="utf-8-sig")
    manifest = pd.DataFrame({"path": ["x", "y"], "label": ["a", "b"], "hash": ["0", "1"]})
    assert read_review(tmp_path / "list.csv", manifest, {}) == {("0", "a"): Correction("0", "b", "a", "x")}
