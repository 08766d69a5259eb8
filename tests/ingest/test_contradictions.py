"""Copies under different labels: listed for a person wherever they are, and settled by what that person writes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tasks.errors import DataError
from tasks.ingest.config import IngestConfig
from tasks.ingest.contradictions import as_suspects, read_contradictions
from tasks.ingest.corrections import Correction, Key, read_corrections, write_corrections
from tasks.ingest.door import ingest_images
from tasks.ingest.relabel import read_review
from tasks.records import Dataset
from tasks.workspace import Workspace
from tests.ingest.pictures import png

COPIES = {"a": ["ant", "bee"], "b": ["ant", "bee"], "c": ["ant", "bee"], "d": ["ant", "bee", "cow", "cow/other"]}
"""Pictures, and where each of them lies."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for name in ("ant", "bee", "cow"):
        for index in range(12):
            (path := folder / name / f"{index}.png").parent.mkdir(exist_ok=True)
            path.write_bytes(png(f"{name}{index}", 12))
    for name, places in COPIES.items():
        for place in places:
            (path := folder / place / f"{name}.png").parent.mkdir(exist_ok=True)
            path.write_bytes(png(name, 12))
    return folder


@pytest.fixture(scope="module")
def dataset(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return ingested(source, Workspace(tmp_path_factory.mktemp("workspace")))


def ingested(source: Path, workspace: Workspace, **checks: str) -> Dataset:
    layout = {"folder": str(source), "layout": "label/*"}
    given = {"source": layout, "split": {"by": "stratified"}, "checks": checks}
    return ingest_images(IngestConfig.model_validate(given), workspace, into_data=False)


def suspects(dataset: Dataset) -> pd.DataFrame:
    return as_suspects(read_contradictions(dataset.report))


def reviewed(
    dataset: Dataset, file: Path, edits: dict[str, str], known: dict[Key, Correction] | None = None
) -> dict[Key, Correction]:
    """What becomes of the list of contradictions into which a person has written, by path."""
    listed = suspects(dataset)
    table = listed.assign(was=listed["label"])
    table["label"] = [edits.get(path, label) for path, label in zip(table["path"], table["label"], strict=True)]
    table.to_csv(file, index=False)
    return read_review(file, dataset.read_manifest(), known or {}, copies=read_contradictions(dataset.report))


def labels(dataset: Dataset) -> dict[str, str]:
    """Of those pictures that are in the dataset, by name."""
    manifest = dataset.read_manifest()
    names = manifest["path"].map(lambda path: Path(path).stem)
    return {name: label for name, label in zip(names, manifest["label"], strict=True) if name in COPIES}


def test_all_copies_are_listed_each_with_the_label_that_most_of_the_others_have(dataset: Dataset) -> None:
    assert labels(dataset) == {}, "they are kept out"
    listed = suspects(dataset).set_index("path")
    assert listed.loc[["ant/a.png", "bee/a.png"], ["label", "suggested", "why", "score"]].values.tolist() == [
        ["ant", "bee", "the same file as bee/a.png, which is bee", 1.0],
        ["bee", "ant", "the same file as ant/a.png, which is ant", 1.0],
    ]
    assert listed.loc[["ant/d.png", "bee/d.png", "cow/d.png"], "suggested"].tolist() == ["cow", "cow", "ant"]
    assert len(listed) == sum(map(len, COPIES.values()))


def test_copies_that_are_taken_in_are_listed_as_well(source: Path, dataset: Dataset, workspace: Workspace) -> None:
    warned = ingested(source, workspace, conflicting_label="warn")
    assert set(labels(warned)) == set(COPIES)
    assert suspects(warned)["path"].tolist() == suspects(dataset)["path"].tolist()


def test_a_person_settles_them_and_nothing_is_said_any_more(
    source: Path, dataset: Dataset, workspace: Workspace, tmp_path: Path
) -> None:
    edits = {
        "bee/a.png": "ant",  # one of the two is right
        "ant/b.png": "",  # the wrong copy goes
        "ant/c.png": "cow", "bee/c.png": "cow",  # both are wrong
        **{f"{place}/d.png": "" for place in COPIES["d"]},
    }  # fmt: skip
    known = reviewed(dataset, tmp_path / "list.csv", edits)
    write_corrections(workspace, known)
    assert read_corrections(workspace) == known
    after = ingested(source, workspace)
    assert labels(after) == {"a": "ant", "b": "bee", "c": "cow"}
    assert suspects(after).empty
    assert not [line for line in after.findings if "different labels" in line or "is not the one that" in line]

    assert reviewed(dataset, tmp_path / "again.csv", edits, known) == known, "the list may be applied once more"
    row = after.read_manifest().query("path.str.endswith('/c.png')").assign(was="cow", label="bee")
    row.to_csv(tmp_path / "other.csv", index=False)
    changed = read_review(tmp_path / "other.csv", after.read_manifest(), known)
    content = row["hash"].iloc[0]
    assert {key: each.label for key, each in changed.items() if key[0] == content} == {(content, "ant"): "bee"}


def test_two_rows_that_give_one_picture_two_labels_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="another row gives the same image another label"):
        reviewed(dataset, tmp_path / "list.csv", {"ant/a.png": "bee", "bee/a.png": "cow"})


def test_corrections_of_one_content_that_differ_are_refused(workspace: Workspace) -> None:
    write_corrections(workspace, {("0", was): Correction("0", was.upper(), was, "x.png") for was in ("a", "b")})
    with pytest.raises(DataError, match=r"data.labels.csv, row 3: x.png is corrected twice, and differently"):
        read_corrections(workspace)


def test_a_table_may_list_a_file_under_two_lists_of_labels(tmp_path: Path, workspace: Workspace) -> None:
    rows = [{"path": f"{index}.png", "label": "ant" if index % 2 else "bee Ärmel"} for index in range(30)]
    for index in range(30):
        (tmp_path / f"{index}.png").write_bytes(png(f"several{index}", 12))
    rows.append({"path": "3.png", "label": "Ärmel ant"})
    (tmp_path / "table.csv").write_text(pd.DataFrame(rows).to_csv(index=False))
    config = IngestConfig.model_validate({"source": {"table": str(tmp_path / "table.csv"), "separator": " "}})
    dataset = ingest_images(config, workspace, into_data=False)
    assert suspects(dataset)[["path", "label", "suggested"]].values.tolist() == [
        ["3.png", '["ant", "Ärmel"]', '["ant"]'], ["3.png", '["ant"]', '["ant", "Ärmel"]'],
    ]  # fmt: skip
    write_corrections(workspace, reviewed(dataset, tmp_path / "list.csv", {"3.png": '["Ärmel"]'}))
    after = ingest_images(config, workspace, into_data=False).read_manifest().set_index("path")["label"]
    assert list(after["3.png"]) == ["Ärmel"]
