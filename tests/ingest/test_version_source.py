"""A version of the dataset is ingested as it was, whatever source, rules and draws it came from."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import ConfigurationError, DataError
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.records import Dataset
from tasks.workspace import Workspace
from tests.ingest.pictures import png

CASES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "one label, cut by hash": ({}, {}),
    "groups by name": ({"split": {"group": "stem"}}, {}),
    "a few shots, the rest in a labelled pool": ({"split": {"shots": 3}}, {}),
    "a fold": ({"split": {"folds": 3, "fold": 1}}, {}),
    "groups, domains and no test split": ({}, {"split": "train val", "group": "patient", "domain": "lab"}),
    "several labels": ({"source": {"separator": ";"}}, {"label": "a;b"}),
}
"""Keys of the configuration, and what is in the columns of the table."""


def ingested(workspace: Workspace, keys: dict[str, Any]) -> Dataset:
    return ingest_images(IngestConfig.model_validate(keys), workspace)


@pytest.fixture
def tabled(empty: Workspace) -> Any:
    """Writes a table of 48 images, one of them without a label, and ingests it."""

    def written(keys: dict[str, Any], columns: dict[str, str]) -> Dataset:
        (folder := empty.root / "photos").mkdir()
        rows = [("path", "label", *[name for name in columns if name != "label"])]
        for index in range(48):
            (folder / f"scene{index // 2}_{index % 2}.png").write_bytes(png(f"{index}", 8))
            label = "" if index == 47 else columns.get("label", "") if index % 3 == 0 else "ab"[index % 2]
            rest = {
                "split": columns.get("split", "").split()[index // 4 % 2 :][:1] if columns.get("split") else [],
                "group": [f"{columns.get('group')}{index // 2}"], "domain": [f"{columns.get('domain')}{index % 2}"],
            }  # fmt: skip
            label = label or ("" if index == 47 else "ab"[index % 2])
            cells = ["".join(rest[name]) for name in columns if name != "label"]
            rows.append((f"scene{index // 2}_{index % 2}.png", label, *cells))
        with (folder / "table.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        source = {"table": "photos/table.csv"} | keys.get("source", {})
        return ingested(empty, keys | {"source": source})

    return written


@pytest.mark.parametrize("case", CASES)
def test_a_version_is_the_same_dataset_again(case: str, tabled: Any, empty: Workspace) -> None:
    keys, columns = CASES[case]
    first = tabled(keys, columns)
    source = {"version": first.version.removesuffix(".dir"), "multi_label": first.multi_label}
    again = ingested(empty, {"source": source, "split": {"by": "given"}})
    assert again.version == first.version and again.fingerprint == first.fingerprint
    assert (again.choose_on, again.report_on, again.classes) == (first.choose_on, first.report_on, first.classes)
    assert again.read_manifest().equals(first.read_manifest())


def test_a_version_that_is_not_here_and_labels_of_another_kind_are_told(tabled: Any, empty: Workspace) -> None:
    first = tabled({}, {})
    with pytest.raises(DataError, match=r"version 0{32}\.dir of the dataset is not in this workspace's store"):
        ingested(empty, {"source": {"version": "0" * 32}})
    with pytest.raises(ConfigurationError, match="multi_label has to be False"):
        ingested(empty, {"source": {"version": first.version, "multi_label": True}})


def test_nothing_of_the_first_source_is_needed(tabled: Any, empty: Workspace) -> None:
    first = tabled({}, {})
    for path in sorted(Path(empty.root / "photos").iterdir()):
        path.unlink()
    assert ingested(empty, {"source": {"version": first.version}, "split": {"by": "given"}}).version == first.version
