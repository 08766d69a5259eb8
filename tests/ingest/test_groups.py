"""Groups that are written in the names of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.errors import ConfigurationError
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.records import Dataset
from tasks.workspace import Workspace
from tests.ingest.pictures import png, zipped

TRACKS = {
    f"{label}/track{track:02}_{frame}.png": png(f"{label} {track} {frame}")
    for label in "ab" for track in range(20) for frame in range(3)
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("home"))
    for name, content in TRACKS.items():
        path: Path = workspace.root / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (workspace.root / "photos.zip").write_bytes(zipped(TRACKS))
    return workspace


def ingested(home: Workspace, **source: Any) -> Dataset:
    return ingest_images(IngestConfig.model_validate({"source": source}), home, into_data=False)


@pytest.mark.parametrize("source", [{"folder": "photos"}, {"archive": "photos.zip"}])
def test_tracks_are_never_in_two_splits(source: dict[str, str], home: Workspace) -> None:
    manifest = ingested(home, **source, group=r"^(track\d+)_").read_manifest()
    assert manifest["group"].tolist() == manifest["path"].str.extract(r"/(track\d+)_")[0].tolist()
    assert set(manifest["split"]) == {"train", "val", "test"}
    assert (manifest.groupby("group")["split"].nunique() == 1).all()


def test_without_a_bracket_all_that_the_pattern_finds_is_the_group(home: Workspace) -> None:
    manifest = ingested(home, folder="photos", group=r"k1\d").read_manifest()
    assert set(manifest["group"].dropna()) == {f"k1{digit}" for digit in range(10)}


def test_pattern_is_looked_for_in_the_files_name_not_in_its_folders(home: Workspace) -> None:
    with pytest.raises(ConfigurationError, match=r"group: no file's name fits '\^a'"):
        ingested(home, folder="photos", group="^a")


def test_groups_come_from_the_folders_or_from_names_not_from_both(home: Workspace) -> None:
    with pytest.raises(ConfigurationError, match="layout 'label/group' gives groups, and so does group"):
        ingested(home, folder="photos", layout="label/group", group="x")


@pytest.mark.parametrize("source", [{"folder": "photos"}, {"archive": "photos.zip"}])
def test_pattern_that_is_none_is_refused_with_the_configuration(source: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="is no regular expression: missing"):
        IngestConfig.model_validate({"source": {**source, "group": "(track"}})


@pytest.mark.parametrize("source", [{"folder": "photos"}, {"archive": "photos.zip"}])
def test_another_pattern_is_another_state(source: dict[str, str], home: Workspace) -> None:
    states = {
        IngestConfig.model_validate({"source": {**source, **more}}).source.state(home)
        for more in ({}, {"group": "track"}, {"group": r"(track\d+)"})
    }
    assert len(states) == 3
