"""Several tasks of an image, and numbers: from a table's cells to a dataset, a manifest and a version."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from tasks.errors import ConfigurationError, DataError
from tasks.ingest.classes import check_learnable, note_classes
from tasks.ingest.compare import compare
from tasks.ingest.config import ChecksConfig, IngestConfig
from tasks.ingest.corrections import write_corrections
from tasks.ingest.door import _settle, ingest_images
from tasks.ingest.manifest import MANIFEST, parse_manifest, parse_targets
from tasks.ingest.objects import object_path
from tasks.ingest.relabel import read_review
from tasks.ingest.sources import read_source
from tasks.ingest.tables.cells import number_of, number_text
from tasks.ingest.versioning import read_listing
from tasks.records import Dataset, Split
from tasks.target import Kind, Target
from tasks.workspace import Workspace
from tests.ingest.journals import images, journal_of
from tests.ingest.pictures import png

LABEL: dict[str, Any] = {
    "species": "species",
    "age": {"column": "age", "kind": "number", "unit": "years"},
    "tags": {"column": "tags", "separator": ";"},
}


def cells(index: int) -> dict[str, str]:
    """What a row says of an image."""
    return {"species": "ab"[index % 2], "age": str(index / 8), "tags": ["x", "y", "x;y"][index % 3]}


def ingested(
    workspace: Workspace, rows: Sequence[dict[str, str]], label: Any = LABEL, contents: Sequence[int] = (), **keys: Any
) -> Dataset:
    """The dataset of a table with a row an image.

    Args:
        contents: of the images; each its own where there are none.
    """
    folder = workspace.root / "photos"
    folder.mkdir(exist_ok=True)
    names = [f"{index:03d}.png" for index in range(len(rows))]
    for name, content in zip(names, contents or range(len(rows)), strict=True):
        (folder / name).write_bytes(png(f"{content}", 8))
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", *rows[0]])
        writer.writeheader()
        writer.writerows({"path": name} | row for name, row in zip(names, rows, strict=True))
    source = {"table": "photos/table.csv", "label": label}
    return ingest_images(IngestConfig.model_validate({"source": source} | keys), workspace)


def quarantine(dataset: Dataset) -> dict[str, str]:
    """Why images were kept out, by path."""
    table = pd.read_csv(dataset.report / "quarantine.csv")
    return {path: f"{kind}: {reason}" for path, kind, reason in table[["path", "kind", "reason"]].to_numpy()}


def test_tasks_of_three_kinds_come_as_they_stand_in_the_table(empty: Workspace) -> None:
    rows = [cells(index) for index in range(60)]
    rows[7]["age"] = rows[8]["tags"] = ""
    dataset = ingested(empty, rows)
    species, age, tags = dataset.targets
    assert (species.kind, species.classes, species.column) == ("class", ("a", "b"), "label")
    assert (age.kind, age.classes, age.column, age.unit) == ("number", (), "label:age", "years")
    assert (tags.kind, tags.classes, tags.column) == ("labels", ("x", "y"), "label:tags")
    assert species.images == dataset.counts and sum(age.images.values()) == sum(tags.images.values()) == 59
    manifest = dataset.read_manifest().set_index("path")
    for index, row in enumerate(rows):
        found = manifest.loc[f"{index:03d}.png"]
        assert found["label"] == row["species"]
        assert found["label:age"] == float(row["age"]) if row["age"] else np.isnan(found["label:age"])
        assert ";".join(found["label:tags"] if row["tags"] else []) == row["tags"]
    facts = json.loads((dataset.report / "checks.json").read_text())["tasks"]
    assert facts["species"]["classes"] == {"a": 30, "b": 30} and facts["tags"]["classes"] == {"x": 39, "y": 39}
    assert (facts["age"]["min"], facts["age"]["max"], facts["age"]["unit"]) == (0.0, 59 / 8, "years")
    assert facts["age"]["mean"] == pytest.approx(np.mean([index / 8 for index in range(60) if index != 7]))


def test_a_version_of_tasks_is_the_same_dataset_again(empty: Workspace) -> None:
    rows = [cells(index) for index in range(60)]
    rows[3]["species"] = rows[4]["species"] = rows[5]["age"] = ""
    first = ingested(empty, rows)
    tasks = {"species": "class", "age": {"kind": "number", "unit": "years"}, "tags": "labels"}
    source = {"version": first.version.removesuffix(".dir"), "tasks": tasks}
    again = ingest_images(IngestConfig.model_validate({"source": source, "split": {"by": "given"}}), empty)
    assert (again.version, again.fingerprint, again.targets) == (first.version, first.fingerprint, first.targets)
    assert again.read_manifest().equals(first.read_manifest())
    with pytest.raises(ConfigurationError, match=r"tasks has to be \{species: class, age: number, tags: labels\}"):
        IngestConfig.model_validate({"source": {"version": first.version}}).source.check(empty)
    listing = read_listing(first.version, first.images)
    content = object_path(first.images, listing[MANIFEST]).read_bytes()
    assert content.startswith(b"path,label:species,split,domain,group,hash,size,width,height,number:age,labels:tags\n")
    assert [(each.name, each.kind) for each in parse_targets(content, MANIFEST)] == [
        (each.name, each.kind) for each in first.targets
    ]
    assert parse_manifest(content, MANIFEST)["label:age"].equals(first.read_manifest()["label:age"])


def test_a_task_of_one_class_is_the_label_without_a_name_but_for_the_name(empty: Workspace) -> None:
    rows = [{"species": "ab"[index % 2]} for index in range(40)]
    unnamed, named = ingested(empty, rows, "species"), ingested(empty, rows, {"species": "species"})
    assert named.target == unnamed.target.model_copy(update={"name": "species"})
    assert named.read_manifest().equals(unnamed.read_manifest()) and named.counts == unnamed.counts
    assert named.version != unnamed.version


def test_numbers_that_a_network_cannot_tell_apart_are_told(empty: Workspace) -> None:
    rows = [{"age": f"{1_700_000_000 + index}"} for index in range(60)]
    with pytest.raises(DataError, match=r"between 1700000000 and 1700000059, so near to each other .*subtract"):
        ingested(empty, rows, {"age": LABEL["age"]})


def test_a_number_leads(empty: Workspace) -> None:
    rows = [{"age": f"{index * index % 97}"} for index in range(200)]
    dataset = ingested(empty, rows, {"age": LABEL["age"]}, split={"by": "stratified"})
    assert dataset.target == Target(name="age", kind="number", unit="years", images=dataset.counts)
    assert dataset.classes == () and not dataset.multi_label
    manifest = dataset.read_manifest()
    assert manifest["label"].dtype == np.float64
    whole = np.quantile(manifest["label"], np.linspace(0, 1, 6))
    for split in ("train", "val", "test"):  # each has as much of every fifth
        share = np.histogram(manifest.loc[manifest["split"] == split, "label"], whole)[0] / dataset.counts[split]
        assert np.abs(share - np.histogram(manifest["label"], whole)[0] / 200).max() < 0.08
    assert (dataset.report / "checks.png").stat().st_size > 10_000
    assert pd.read_csv(dataset.report / "classes.csv").empty


def test_images_without_the_leading_label_are_partial_or_in_the_pool(empty: Workspace) -> None:
    rows = [cells(index) for index in range(120)]
    whole = ingested(empty, rows).read_manifest().set_index("path")["split"]
    without = [f"{index:03d}.png" for index in range(0, 120, 3)]
    for index in range(0, 120, 3):
        rows[index]["species"] = ""
    rows[0] = dict.fromkeys(rows[0], "")  # no label at all
    dataset = ingested(empty, rows)
    splits = dataset.read_manifest().set_index("path")["split"]
    assert splits.drop(without).equals(whole.drop(without))  # nobody else has moved
    placed = {"train": "partial", "val": "pool", "test": "pool"}
    assert [splits[name] for name in without[1:]] == [placed[whole[name]] for name in without[1:]]
    assert splits["000.png"] == "pool" and set(splits[without]) == {"partial", "pool"}
    assert dataset.target.images == {split: dataset.counts[split] for split in ("train", "val", "test")}
    assert dataset.further[0].images["partial"] == dataset.counts["partial"]


def test_given_splits_hold_for_images_without_the_leading_label(empty: Workspace) -> None:
    rows = [cells(index) | {"split": "train" if index % 4 else "val"} for index in range(80)]
    for index in range(8):
        rows[index]["species"] = ""
    splits = ingested(empty, rows).read_manifest().set_index("path")["split"]
    assert splits[:8].tolist() == ["pool", *["partial"] * 3, "pool", *["partial"] * 3]
    assert set(splits[8:]) == {"train", "tune", "val"}


def test_copies_that_differ_in_any_task_contradict_each_other_and_others_share_what_they_say(empty: Workspace) -> None:
    rows = [cells(index) for index in range(60)]
    rows += [cells(0) | {"age": "9"}, cells(1) | {"tags": ""}, cells(2) | {"species": "b"}, cells(3)]
    rows[1]["age"], rows[3]["species"], rows[3]["age"] = "", "", "0.30000000000000004"
    rows[-1]["age"] = ""
    rows[-3]["age"] = "0.1"
    dataset = ingested(empty, rows, contents=[*range(60), 0, 1, 2, 3])
    kept_out = quarantine(dataset)
    assert kept_out["000.png"] == kept_out["060.png"] == "conflicting_label: stands under age 0.0,9.0"
    assert kept_out["002.png"].startswith("conflicting_label: stands under a,b") and "062.png" in kept_out
    assert kept_out["061.png"] == "duplicate: copy of 001.png"
    manifest = dataset.read_manifest().set_index("path")
    assert manifest.loc["001.png", "label:age"] == 0.1 and list(manifest.loc["001.png", "label:tags"]) == ["y"]
    one = manifest.loc["003.png"]  # whose copy has the leading label
    assert one["label"] == "b" and one["label:age"] == 0.30000000000000004 and "063.png" in kept_out


def test_what_is_no_number_is_kept_out_with_its_column(empty: Workspace) -> None:
    rows = [cells(index) for index in range(60)]
    no_numbers = ["old", "nan", "inf", "-inf", "1e999", "35 years", "1_0", "\u0663", "0x10", "3,5,1", "1.2.3", "1,234"]
    for row, cell in zip(rows, no_numbers, strict=False):
        row["age"] = cell
    kept_out = quarantine(ingested(empty, rows))
    assert list(kept_out) == [f"{index:03d}.png" for index in range(len(no_numbers))]
    for number, (told, cell) in enumerate(zip(kept_out.values(), no_numbers, strict=True), 1):
        assert told.startswith(f"bad_row: row {number}: column age holds {cell!r}")


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("3,5", 3.5), ("0,125", 0.125), ("-1234,5", -1234.5), ("1e-3", 0.001), ("+.5", 0.5), ("5.", 5),
     ("-0", 0)],
)  # fmt: skip
def test_numbers_are_read_as_people_write_them(text: str, value: float) -> None:
    assert number_of(text) == value and number_text(number_of(text)) == number_text(value)


def test_a_comma_that_may_stand_between_thousands_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match=r"holds '1,234', which may be 1\.234 or 1234"):
        number_of("1,234")


def test_every_number_comes_back_from_its_text() -> None:
    for value in np.random.default_rng(0).standard_normal(200) * 10.0 ** np.arange(-100, 100):
        assert float(number_text(value)) == value


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ({}, "name a task and its column"),
        ({"a b": "x"}, "'a b' is no name of a task"),
        ({"é": "x"}, "is no name of a task"),
        ({"a" * 41: "x"}, "is no name of a task"),
        ({"Train": "x"}, "cannot be called 'Train'"),
        ({"age": "x", "Age": "y"}, "'age' and 'Age' would have columns or files of one name"),
        ({"age_low": "x", "age": "y"}, "'age' and 'age_low' would have columns or files of one name"),
        ({"age": 3}, "task 'age': name its column"),
        ({"age": {"kind": "number"}}, "task 'age': column must name one"),
        ({"age": {"column": "x", "kind": "float"}}, "there is no kind 'float'; there are class, labels, number"),
        ({"age": {"column": "x", "knd": "number"}}, "task 'age': unknown key 'knd'; did you mean 'kind'?"),
        ({"age": {"column": "x", "kind": "number", "separator": ";"}}, "give several labels, not a number"),
        ({"age": {"column": "x", "unit": "years"}}, "a unit is a number's"),
        ({"a": "x", "b": "x"}, "task 'b': column 'x' is that of another task of its kind"),
        (["x", 1], "name a column, a list of columns of 0 and 1, or columns by the names of tasks"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told_before_a_file_is_read(label: Any, told: str) -> None:
    with pytest.raises(ValidationError) as error:
        IngestConfig.model_validate({"source": {"table": "table.csv", "label": label}})
    assert told in str(error.value) and error.value.error_count() == 1


def test_one_column_may_be_a_class_and_a_number() -> None:
    label = {"class_of": "digit", "size": {"column": "digit", "kind": "number"}}
    assert [each.kind for each in read_source({"embedded": "digits", "label": label}).targets()] == ["class", "number"]


def test_a_column_that_is_not_there_is_named(empty: Workspace) -> None:
    with pytest.raises(ConfigurationError, match="has no column height; it has path, species, age, tags"):
        ingested(empty, [cells(0)], {"species": "species", "height": {"column": "height", "kind": "number"}})


def test_one_hot_columns_are_a_task_of_several_labels(empty: Workspace) -> None:
    rows = [cells(index) | {"dry": str(index % 2), "red": str(index // 2 % 2)} for index in range(40)]
    rows[1] |= {"dry": "", "red": ""}
    dataset = ingested(empty, rows, {"species": "species", "look": ["dry", "red"]})
    assert dataset.further[0].classes == ("dry", "red")
    manifest = dataset.read_manifest().set_index("path")["label:look"]
    assert (
        manifest["001.png"] is None and list(manifest["004.png"]) == [] and list(manifest["003.png"]) == ["dry", "red"]
    )


@pytest.mark.parametrize(
    ("kind", "said", "told"),
    [
        ("class", lambda _: "same", "task 'more': only one class was found"),
        ("class", lambda _: None, "task 'more': no image has a label"),
        ("class", lambda index: "rare" if index == 0 else "ab"[index % 2], "task 'more': no training image for rare"),
        ("labels", lambda index: ["rare"] if index == 0 else [], "task 'more': no training image for rare"),
        ("number", lambda _: 3.5, "task 'more': the number is 3.5 of every training image"),
        ("number", lambda _: None, "task 'more': no image has a number"),
        ("number", lambda index: index if index > 1 else None, "of it falls into the split 'val'"),
        ("number", lambda index: index if index < 4 else None, "of it is learned from"),
    ],
)
def test_further_tasks_that_cannot_be_learned_are_told_by_name(kind: Kind, said: Any, told: str) -> None:
    splits = ["val", "val", "test", "test", *["train"] * 20]
    rows = [
        row._replace(split=split, further=None if said(index) is None else json.dumps({"more": said(index)}))
        for index, (row, split) in enumerate(zip(images(len(splits)), splits, strict=True))
    ]
    targets = (Target(name="species"), Target(name="more", column="label:more", kind=kind))
    with journal_of(rows) as journal:
        choose_on, report_on, _ = _settle(journal, IngestConfig())
        with pytest.raises(DataError, match=told):
            check_learnable(journal, ("train", choose_on, report_on), targets)


def test_a_task_that_nobody_can_be_judged_by_is_a_finding(empty: Workspace) -> None:
    rows = [cells(index) | {"split": ["train", "train", "val", "test"][index % 4]} for index in range(80)]
    for index in range(3, 80, 4):
        rows[index]["age"] = ""
    findings = ingested(empty, rows).findings
    assert "1 tasks without labels in the split that is reported on: age" in findings


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([f"{index // 6 + 0.5}" for index in range(150)], True),
        ([f"{index // 2}" for index in range(60)], True),
        ([f"{index // 2:04d} m" for index in range(60)], False),
        ([f"{index % 10}" for index in range(60)], False),
        ([f"{index % 25}" for index in range(300)], False),
        ([f"{index // 6 + 0.5}" for index in range(150)] + ["unknown"] * 3, True),
        ([f"{index // 6 + 0.5}" for index in range(150)] + [f"size {index}" for index in range(12)], False),
    ],
    ids=["decimals", "few images each", "no numbers", "few classes", "many images each", "but one", "half"],
)
def test_classes_that_look_like_numbers_are_told(labels: list[str], found: bool) -> None:
    rows = [row._replace(label=label) for row, label in zip(images(len(labels)), labels, strict=True)]
    targets = (Target(kind="class"),)
    with journal_of(rows) as journal:
        choose_on, report_on, _ = _settle(journal, IngestConfig.model_validate({"split": {"by": "stratified"}}))
        needed: tuple[Split, ...] = ("train", choose_on, report_on)
        journal.sql.execute("UPDATE rows SET split = 'train' WHERE split = 'val'")
        note_classes(journal, ChecksConfig(), needed[1:], targets, numbers=True)
        told = journal.counts("SELECT about, reason FROM remarks WHERE kind = 'numbers_as_classes'")
        assert (list(told) == ["label"] and "label: {NAME: {column: ..., kind: number}}" in str(told)) == found
        journal.sql.execute(f"UPDATE rows SET split = 'test' WHERE label = '{labels[0]}'")
        journal.sql.execute(f"UPDATE rows SET split = 'val' WHERE label = '{labels[-1]}'")
        with pytest.raises(DataError, match="no training image for") as error:
            check_learnable(journal, needed, targets, numbers=True)
        assert ("of them numbers" in str(error.value)) == found
        assert ("all but 'unknown' of them numbers" in str(error.value)) == ("unknown" in labels)


def test_shots_are_not_of_numbers() -> None:
    source = {"table": "table.csv", "label": {"age": LABEL["age"]}}
    with pytest.raises(ValidationError, match=r"split\.shots are images of each class, and age is a number"):
        IngestConfig.model_validate({"source": source, "split": {"shots": 3}})


def test_what_changed_between_versions_is_told_of_every_task() -> None:
    tasks = [[cells(index)[name] for index in range(9)] for name in cells(0)]
    before = pd.DataFrame({"path": list("abcdefghi"), "hash": list("abcdefghi"), "split": "train", "label": tasks[0]})
    before["label:age"], before["label:tags"] = np.float64(tasks[1]), [text.split(";") for text in tasks[2]]
    after = before.copy()
    after.loc[1:3, "label:age"] = [70, 0.25, np.nan]
    after.at[2, "label:tags"] = ["y"]
    assert compare(before, after).astype(object).fillna("").to_numpy().tolist() == [
        ["relabelled", "b", "age: 0.125", "age: 70"], ["relabelled", "c", "tags: x, y", "tags: y"],
        ["relabelled", "d", "age: 0.375", ""],
    ]  # fmt: skip
    alone = compare(before, before.drop(columns=["label:age", "label:tags"]))
    assert set(alone["change"]) == {"relabelled"} and len(alone) == 18


def test_domains_may_have_tasks_of_their_own(empty: Workspace) -> None:
    ingested(empty, [cells(index) for index in range(40)])
    for index in range(40):
        (folder := empty.root / "more" / "ab"[index % 2]).mkdir(parents=True, exist_ok=True)
        (folder / f"{index}.png").write_bytes(png(f"more {index}", 8))
    table = {"table": "photos/table.csv", "label": LABEL}
    source = {"domains": {"tabled": table, "plain": {"folder": "more"}}}
    dataset = ingest_images(IngestConfig.model_validate({"source": source}), empty)
    assert [target.name for target in dataset.targets] == ["species", "age", "tags"]
    assert sum(dataset.target.images.values()) == 80 and sum(dataset.further[0].images.values()) == 40


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (
            {"age": LABEL["age"], "species": "species"},
            "domain two leads with the task 'age', another one with 'species'",
        ),
        ({"species": "species", "age": "age"}, "the task 'age' is of kind class, and number in another"),
        (
            {"species": {"column": "age", "kind": "number"}},
            "the task 'species' is of kind number, and class in another",
        ),
        ({"species": "species", "age": LABEL["age"] | {"unit": "days"}}, "'age' is in days, elsewhere in years"),
    ],
)
def test_domains_agree_on_their_tasks(other: Any, told: str) -> None:
    one = {"table": "table.csv", "label": LABEL}
    with pytest.raises(ValidationError, match=told):
        IngestConfig.model_validate({"source": {"domains": {"one": one, "two": {"table": "b.csv", "label": other}}}})


def test_digits_have_three_tasks(empty: Workspace) -> None:
    label = {"digit": "digit", "even": "even", "ink": {"column": "ink", "kind": "number"}}
    source = {"embedded": "digits", "label": label}
    items = list(IngestConfig.model_validate({"source": source}).source.items(empty))
    assert items[3].labels == ("3",) and items[3].further["even"] == ("odd",)
    assert 0 < min(item.further["ink"] for item in items) < max(item.further["ink"] for item in items) < 1
    with pytest.raises(ValidationError, match="there is no column 'odd'; there are digit, even, ink"):
        IngestConfig.model_validate({"source": source | {"label": {"odd": "odd"}}})


def test_numbers_are_corrected_as_labels_are(empty: Workspace, tmp_path: Path) -> None:
    rows = [{"age": f"{index * index % 97}.0"} for index in range(60)]
    label = {"age": LABEL["age"]}
    before = ingested(empty, rows, label)
    manifest = before.read_manifest().set_index("path", drop=False)
    edited = manifest.loc[["001.png", "002.png", "003.png"], ["label", "path", "hash"]]
    edited.assign(was=edited["label"], label=["17,5", "4.0", ""]).to_csv(tmp_path / "list.csv", index=False)
    found = read_review(tmp_path / "list.csv", before.read_manifest(), {})
    assert [(each.path, each.was, each.label) for each in found.values()] == [
        ("001.png", "1", "17.5"), ("003.png", "9", None)
    ]  # fmt: skip
    write_corrections(empty, found)
    after = ingested(empty, rows, label)
    numbers = after.read_manifest().set_index("path")["label"]
    assert numbers["001.png"] == 17.5 and numbers["002.png"] == 4 and "003.png" not in numbers
    assert "1 labels corrected by data.labels.csv" in after.findings
    edited.assign(was=edited["label"], label="old").to_csv(tmp_path / "list.csv", index=False)
    with pytest.raises(DataError, match=r"row 2 \(001\.png\): a label holds 'old' where a number is expected"):
        read_review(tmp_path / "list.csv", before.read_manifest(), {})
