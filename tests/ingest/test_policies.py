"""What is done about findings: stop, keep out, or take in and say so; and what is too much."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.errors import DataError
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.kinds import KINDS, ODD, UNUSABLE
from tasks.records import Dataset
from tasks.workspace import Workspace
from tests.ingest.pictures import bomb, encoded, noise, picture, png, turned

FOUND: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "hidden": (".{}.png", png),
    "empty": ("{}.png", lambda name: b""),
    "too_large": ("{}.png", lambda name: bomb(60_000, 60_000 + len(name))),
    "not_an_image": ("{}.png", lambda name: f"<html>{name}".encode()),
    "truncated": ("{}.png", lambda name: png(name)[:1000]),
    "undecodable": ("{}.webp", lambda name: encoded(picture(name), "WEBP")[:500]),
    "no_scale": ("{}.tif", lambda name: encoded(Image.fromarray(noise(name)[..., 0].astype(np.int32) - 200), "TIFF")),
    "one_colour": ("{}.png", lambda name: encoded(Image.new("RGB", (36, 24), "teal" if "cat" in name else "navy"))),
    "wrong_extension": ("{}.png", lambda name: encoded(picture(name), "JPEG")),
    "rotated": ("{}.jpg", lambda name: turned(name, 6)),
    "alpha": ("{}.png", lambda name: encoded(picture(name, "LA"))),
    "palette": ("{}.png", lambda name: encoded(picture(name, "P"))),
    "cmyk": ("{}.jpg", lambda name: encoded(picture(name, "CMYK"), "JPEG")),
    "deep": ("{}.png", lambda name: encoded(picture(name, "I;16"))),
    "animated": ("{}.webp", lambda name: encoded(picture(name), "WEBP", save_all=True, append_images=[picture("2")])),
}  # fmt: skip
"""How files of a kind are called and made."""

FIRST = {
    kind: f"cat/{name.format(kind)}" for kind, (name, _) in FOUND.items()
} | {"no_label": "stray 1.png", "unsafe_path": "cat/caf\\udce9.png"}  # fmt: skip
ROWS = {"bad_row": "row 25", "missing": "gone 1.png", "no_split": "photos/cat/0.png"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A folder with two files of every kind, and a table of some of them; all that is read is read once."""
    workspace = Workspace(tmp_path_factory.mktemp("policies"))
    root = workspace.root / "photos"
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for index in range(12):
            (root / label / f"{index}.png").write_bytes(png(f"{label} {index}"))
        for kind, (name, content) in FOUND.items():
            (root / label / name.format(kind)).write_bytes(content(f"{label} {kind}"))
        with open(os.fsencode(root / label) + b"/caf\xe9.png", "wb") as file:
            file.write(png(f"{label} not UTF-8"))
    for number in (1, 2):
        (root / f"stray {number}.png").write_bytes(png(f"stray {number}"))
    rows = [
        f"photos/{label}/{index}.png,{label},{('', 'train', 'val', 'test')[index % 4]}"
        for label in ("cat", "dog")
        for index in range(12)
    ]
    rows += ["cat/1.png", "photos/cat/1.png,cat,train,and more", "gone 1.png,cat,train", "gone 2.png,dog,train"]
    (workspace.root / "table.csv").write_text("\n".join(["path,label,split", *rows, ""]))
    ingested(workspace, {"folder": "photos"})
    return workspace


def ingested(workspace: Workspace, source: dict[str, Any], **sections: Any) -> Dataset:
    config = IngestConfig.model_validate({"source": source, **sections})
    return ingest_images(config, workspace, into_data=False)


@pytest.mark.parametrize("kind", FIRST)
def test_policy_fail_stops_the_run_and_names_the_first_file(kind: str, workspace: Workspace) -> None:
    with pytest.raises(DataError) as told:
        ingested(workspace, {"folder": "photos"}, checks={kind: "fail"})
    assert str(told.value).startswith(f"2 {KINDS[kind]}, the first: {FIRST[kind]} (")
    assert f"ingest.checks.{kind} is fail" in str(told.value)


@pytest.mark.parametrize("kind", ROWS)
def test_policy_fail_stops_at_rows_of_tables_too(kind: str, workspace: Workspace) -> None:
    with pytest.raises(DataError) as told:
        ingested(workspace, {"table": "table.csv"}, checks={kind: "fail"})
    count = 6 if kind == "no_split" else 2
    assert str(told.value).startswith(f"{count} {KINDS[kind]}, the first: {ROWS[kind]} (")


def test_every_unusable_and_odd_kind_was_made_to_fail() -> None:
    assert set(FIRST) | set(ROWS) == set(UNUSABLE) | set(ODD)


def test_policy_quarantine_keeps_odd_images_out_and_lists_them_under_their_kind(workspace: Workspace) -> None:
    dataset = ingested(workspace, {"folder": "photos"}, checks=dict.fromkeys(ODD, "quarantine"))
    listed = pd.read_csv(dataset.report / "quarantine.csv")
    for kind in ODD:
        name = FOUND[kind][0].format(kind)
        assert sorted(listed.loc[listed["kind"] == kind, "path"]) == [f"cat/{name}", f"dog/{name}"]
    assert len(dataset.read_manifest()) == 24


def test_policy_warn_takes_odd_images_in_and_says_so(workspace: Workspace) -> None:
    dataset = ingested(workspace, {"folder": "photos"}, checks=dict.fromkeys(ODD, "warn"))
    checks = json.loads((dataset.report / "checks.json").read_text())
    assert {kind: checks["findings"][kind]["count"] for kind in ODD} == dict.fromkeys(ODD, 2)
    assert len(dataset.read_manifest()) == 24 + 2 * len(ODD)
    for kind in ODD:
        assert f"2 {KINDS[kind]}" in dataset.findings


def test_unusable_files_cannot_be_waved_through() -> None:
    for kind in UNUSABLE:
        with pytest.raises(ValueError, match=kind):
            IngestConfig.model_validate({"checks": {kind: "warn"}})


@pytest.mark.parametrize("limit", ["files", "total_bytes"])
def test_source_of_more_files_or_bytes_than_allowed_is_a_data_error(limit: str, workspace: Workspace) -> None:
    paths = [path for path in (workspace.root / "photos").rglob("*") if path.is_file()]
    read = [path for path in paths if not path.name.startswith(".") and os.fsencode(path).isascii()]
    most = {"files": len(paths), "total_bytes": sum(path.stat().st_size for path in read)}[limit]
    ingested(workspace, {"folder": "photos"}, limits={limit: most})
    with pytest.raises(DataError, match=rf"more than .*{most - 1:,}.* raise .*ingest.limits.{limit}"):
        ingested(workspace, {"folder": "photos"}, limits={limit: most - 1})
