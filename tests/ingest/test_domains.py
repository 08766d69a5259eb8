"""Several sources as domains of one dataset, and datasets whose folders are domains."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from tasks.errors import ConfigurationError
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.sources import read_source
from tasks.records import Dataset
from tasks.workspace import Workspace
from tests.ingest.pictures import png, tarred

PACS = Path("datasets/pacs-128.tar.gz")
SHOTS = {f"{label}/{index}.png": label for index in range(8) for label in ("cat", "dog")}


def ingested(workspace: Workspace, source: dict[str, Any]) -> Dataset:
    config = {"source": source, "split": {"val": 0.3, "test": 0.3}}
    return ingest_images(IngestConfig.model_validate(config), workspace, into_data=False)


def place(root: Path, *above: str) -> None:
    """The same names below every folder, each with pictures of its own."""
    for folder in above:
        for name in SHOTS:
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (root / folder / name).write_bytes(png(f"{folder} {name}"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace for all that is ingested here: making one takes longer than an ingestion."""
    return Workspace(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def joined(home: Workspace) -> Dataset:
    """Two folders, an archive with a folder around it, and a table."""
    place(home.root, "day", "night")
    (home.root / "night" / "cat" / "broken.png").write_bytes(b"no image")
    wrapped = {f"photos/{name}": png(f"dusk {name}") for name in SHOTS}
    (home.root / "dusk.tar").write_bytes(tarred(wrapped))
    rows = [f"listed/{name},{label},elsewhere" for name, label in SHOTS.items()] + ["listed/x.png,wolf,elsewhere"]
    place(home.root, "listed")
    (home.root / "listed" / "x.png").write_bytes(png("wolf"))
    (home.root / "t.csv").write_text("\n".join(["path,label,domain", *rows]))
    sources = {
        "day": {"folder": "day"},
        "night": {"folder": "night"},
        "dusk": {"archive": "dusk.tar"},
        "dawn": {"table": "t.csv"},
    }
    return ingested(home, {"domains": sources})


def test_every_domain_keeps_its_name_and_labels(joined: Dataset) -> None:
    manifest = joined.read_manifest()
    assert joined.classes == ("cat", "dog", "wolf")
    assert manifest["domain"].value_counts().to_dict() == {"day": 16, "night": 16, "dusk": 16, "dawn": 17}
    assert (manifest["path"].str.split("/").str[0] == manifest["domain"]).all()
    assert (manifest["path"].str.split("/").str[-2] == manifest["label"]).sum() == 64


def test_images_of_one_name_in_two_domains_stay_apart(joined: Dataset) -> None:
    manifest = joined.read_manifest().set_index("path")
    for name in SHOTS:
        for domain in ("day", "night", "dusk"):
            stored = joined.image(manifest.loc[f"{domain}/{name}", "hash"]).read_bytes()
            assert stored == png(f"{domain} {name}")


def test_report_counts_every_domain_and_says_where_a_problem_lies(joined: Dataset) -> None:
    checks = json.loads((joined.report / "checks.json").read_text())
    assert checks["domains"] == {"dawn": 17, "day": 16, "dusk": 16, "night": 16}
    assert (checks["items"], checks["images"], checks["quarantined"]) == (66, 65, 1)
    assert pd.read_csv(joined.report / "quarantine.csv")["path"].tolist() == ["night/cat/broken.png"]


def test_folders_may_be_domains_or_groups_or_nothing(home: Workspace) -> None:
    place(home.root, "photos/paris/x1", "photos/rome/x2")
    found = ingested(home, {"folder": "photos", "layout": "domain/*/label"}).read_manifest()
    assert set(found["domain"]) == {"paris", "rome"} and set(found["label"]) == {"cat", "dog"}
    assert set(found["path"]) == {f"{town}/{name}" for town in ("paris/x1", "rome/x2") for name in SHOTS}


def test_single_labels_join_several_labels_as_lists(home: Workspace) -> None:
    place(home.root, "one", "two")
    rows = [f"two/{name},{label};wild" for name, label in SHOTS.items()]
    (home.root / "labels.csv").write_text("\n".join(["path,label", *rows]))
    dataset = ingested(home, {"domains": {"one": {"folder": "one"}, "two": {"table": "labels.csv", "separator": ";"}}})
    assert dataset.multi_label and dataset.classes == ("cat", "dog", "wild")
    labels = dataset.read_manifest().set_index("path")["label"].map(list)
    assert labels["one/cat/0.png"] == ["cat"] and labels["two/two/cat/0.png"] == ["cat", "wild"]


def test_state_changes_with_any_of_the_domains(workspace: Workspace) -> None:
    place(workspace.root, "day", "night")

    def state(**sources: str) -> str:
        return read_source({"domains": {name: {"folder": folder} for name, folder in sources.items()}}).state(workspace)

    states = [state(a="day", b="night"), state(a="night", b="day"), state(a="day")]
    for folder in ("day", "night"):
        (workspace.root / folder / "cat" / "0.png").write_bytes(b"changed")
        states.append(state(a="day", b="night"))
    assert len(set(states)) == 5 and state(a="day", b="night") == states[-1]


def test_total_is_known_where_every_domain_knows_it(workspace: Workspace) -> None:
    place(workspace.root, "day")
    folder, digits = {"folder": "day"}, {"embedded": "digits"}
    assert read_source({"domains": {"a": folder, "b": digits}}).total(workspace) == 16 + 1797
    assert read_source({"domains": {"a": folder, "b": {"archive": "x.tar"}}}).total(workspace) == 0


@pytest.mark.parametrize(
    ("domains", "told"),
    [
        ({}, "at least 1 item"),
        ({"a": {"foldr": "x"}}, "name exactly one of"),
        ({"a": {"folder": "x", "k": 1}}, "unknown key 'k'"),
    ],
)
def test_domains_are_checked_as_sources_are(domains: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        IngestConfig.model_validate({"source": {"domains": domains}})


def test_domain_whose_name_leads_away_brings_nothing_in(home: Workspace) -> None:
    place(home.root, "good", "bad")
    names = ["..", "../x", "/x", "", "a//b"]
    dataset = ingested(home, {"domains": {"good": {"folder": "good"}} | {name: {"folder": "bad"} for name in names}})
    listed = pd.read_csv(dataset.report / "quarantine.csv")
    assert set(listed["kind"]) == {"unsafe_path"} and len(listed) == 16 * len(names)
    assert set(dataset.read_manifest()["path"]) == {f"good/{name}" for name in SHOTS}


@pytest.mark.parametrize("names", [("train", "test"), ("photo_train", "photo_val", "sketch_train", "sketch_val")])
def test_domains_that_are_called_as_splits_are_not_cut_anew_unasked(names: tuple[str, ...], home: Workspace) -> None:
    place(home.root, *(f"called/{name}" for name in names))
    source = {"domains": {name: {"folder": f"called/{name}"} for name in names}}
    held_out = list(names[1::2])
    told = re.escape(f"{{target: [{', '.join(held_out)}], unlabelled: 0}}")
    with pytest.raises(ConfigurationError, match=told):
        ingest_images(IngestConfig.model_validate({"source": source}), home, into_data=False)
    for split in ({"by": "hash"}, {"by": "stratified"}, {"folds": 3}, {"target": held_out, "unlabelled": 0}):
        config = IngestConfig.model_validate({"source": source, "split": split})
        manifest = ingest_images(config, home, into_data=False).read_manifest()
        splits = set(manifest.loc[manifest["domain"].isin(held_out), "split"])
        assert (splits == {"test"}) == ("target" in split)


def test_domains_that_are_called_as_splits_may_have_splits_of_their_own(home: Workspace) -> None:
    place(home.root, *(f"both/{name}/{split}" for name in ("train", "test") for split in ("train", "test")))
    source = {"domains": {name: {"folder": f"both/{name}"} for name in ("train", "test")}}
    config = IngestConfig.model_validate({"source": source})
    manifest = ingest_images(config, home, into_data=False).read_manifest()
    said = manifest["path"].str.split("/").str[1]
    assert (manifest["split"].replace("val", "train") == said).all()


def test_domains_without_labels_are_no_splits(home: Workspace) -> None:
    place(home.root, "labelled")
    (home.root / "bare").mkdir()
    for number in range(4):
        (home.root / "bare" / f"{number}.png").write_bytes(png(f"bare {number}"))
    rows = [f"bare/{number}.png," for number in range(4)]
    (home.root / "bare.csv").write_text("\n".join(["path,label", *rows]))
    source = {"domains": {"train": {"folder": "labelled"}, "test": {"table": "bare.csv"}}}
    config = IngestConfig.model_validate({"source": source, "split": {"val": 0.3, "test": 0.3}})
    manifest = ingest_images(config, home, into_data=False).read_manifest()
    assert set(manifest.loc[manifest["domain"] == "test", "split"]) == {"pool"}


@pytest.mark.slow
@pytest.mark.shared
def test_pacs_is_four_domains_of_seven_classes(shared: Path, home: Workspace) -> None:
    dataset = ingested(home, {"archive": str(shared / PACS), "layout": "domain/label"})
    checks = json.loads((dataset.report / "checks.json").read_text())
    assert checks["items"] == checks["images"] + checks["quarantined"] == 9991
    assert len(dataset.classes) == 7
    assert set(checks["domains"]) == {"art_painting", "cartoon", "photo", "sketch"}
    listed = pd.read_csv(dataset.report / "quarantine.csv")
    assert set(listed["kind"]) <= {"duplicate", "conflicting_label"}
    manifest = dataset.read_manifest()
    assert (manifest["path"].str.split("/").str[0] == manifest["domain"]).all()
    assert (manifest["path"].str.split("/").str[1] == manifest["label"]).all()
    assert len(manifest) + len(listed) == 9991 and manifest["hash"].is_unique
