"""A source becomes a version of ``data/`` that DVC keeps."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.ingest.manifest import MANIFEST, parse_manifest
from tasks.records import Dataset
from tasks.workspace import Workspace

ROOT = Path(__file__).parents[2]


@dataclass
class Story:
    """One workspace's datasets in the order they were ingested: digits, a folder of the user's, digits again."""

    workspace: Workspace
    digits: Dataset
    own: Dataset
    own_content: bytes
    again: Dataset


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    folder = workspace.root / "mine"
    for index in range(60):
        path = folder / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), index, np.uint8)).save(path)
    (folder / "a" / "broken.png").write_bytes(b"no image")
    (folder / "a" / "notes.txt").write_bytes(b"no image")
    digits = ingest_images(IngestConfig(), workspace)
    own = ingest_images(IngestConfig.model_validate({"source": {"folder": "mine"}}), workspace)
    own_content = workspace.dvc_file.read_bytes()
    return Story(workspace, digits, own, own_content, ingest_images(IngestConfig(), workspace))


def test_digits_are_the_version_that_the_repository_names(story: Story) -> None:
    committed = yaml.safe_load((ROOT / "data.dvc").read_text())["outs"][0]
    assert story.digits.version == committed["md5"]
    assert yaml.safe_load(story.workspace.dvc_file.read_text())["outs"] == [committed]


def test_ingesting_twice_gives_the_same_version_and_fingerprint(story: Story) -> None:
    assert (story.again.version, story.again.fingerprint) == (story.digits.version, story.digits.fingerprint)
    assert story.again.read_manifest().equals(story.digits.read_manifest())


def test_digits_are_scikit_learns(story: Story) -> None:
    manifest = story.digits.read_manifest()
    oracle = load_digits()
    assert len(manifest) == 1797
    assert story.digits.classes == tuple("0123456789")
    for row in manifest.iloc[::100].itertuples():
        index = int(Path(row.path).stem)
        assert row.label == str(oracle.target[index])
        pixels = np.asarray(Image.open(story.digits.image(row.hash)))
        np.testing.assert_array_equal(pixels, np.round(oracle.images[index] * 255 / 16))


def test_dvc_versions_the_folder(story: Story) -> None:
    """The version is what DVC's store keeps under that name: a list of every file in ``data/`` and its MD5."""
    listed = yaml.safe_load(story.own_content)["outs"][0]
    assert listed["md5"] == story.own.version
    assert listed["nfiles"] == 61  # with the manifest
    digest = story.own.version.removesuffix(".dir")
    directory = story.own.images / digest[:2] / f"{digest[2:]}.dir"
    assert story.own.images == story.workspace.root / ".dvc/cache/files/md5"
    entries = {entry["relpath"]: entry["md5"] for entry in yaml.safe_load(directory.read_text())}
    manifest = story.own.read_manifest()
    assert entries.pop("manifest.csv")
    assert entries == dict(zip(manifest["path"], manifest["hash"], strict=True))


@pytest.mark.parametrize("name", ["digits", "own"])
def test_replaced_dataset_stays_readable_by_content(story: Story, name: str) -> None:
    dataset: Dataset = getattr(story, name)
    for hash in dataset.read_manifest()["hash"]:
        assert hashlib.md5(dataset.image(hash).read_bytes()).hexdigest() == hash


def in_data(story: Story) -> pd.DataFrame:
    return parse_manifest((story.workspace.data / MANIFEST).read_bytes(), MANIFEST)


def test_data_folder_holds_the_last_dataset(story: Story) -> None:
    manifest = in_data(story)
    assert manifest.equals(story.again.read_manifest().drop(columns="dhash"))
    found = {path.relative_to(story.workspace.data).as_posix() for path in story.workspace.data.rglob("*.png")}
    assert found == set(manifest["path"])


def test_what_was_kept_out_is_told(story: Story) -> None:
    kept_out = pd.read_csv(story.own.report / "quarantine.csv")
    assert story.own.quarantined == 2
    assert kept_out["path"].tolist() == ["a/broken.png", "a/notes.txt"]
    assert "2 files that are no images: kept out" in story.own.findings
    assert sum(story.own.counts.values()) == 60


def test_nothing_is_left_behind_and_the_source_is_untouched(story: Story) -> None:
    assert not list(story.workspace.cache.glob("ingest-*"))
    assert {path.name for path in story.workspace.root.iterdir()} == {
        "mine", "data", "data.dvc", ".dvc", ".dvcignore", ".headstart",
    }  # fmt: skip
    assert len(list((story.workspace.root / "mine").rglob("*.*"))) == 62


def test_another_run_may_be_told_to_leave_data_alone(story: Story) -> None:
    before = story.workspace.dvc_file.read_bytes()
    dataset = ingest_images(
        IngestConfig.model_validate({"source": {"folder": "mine"}, "split": {"by": "stratified"}}),
        story.workspace,
        into_data=False,
    )
    assert dataset.version not in (story.own.version, story.again.version)
    assert story.workspace.dvc_file.read_bytes() == before
    assert in_data(story).equals(story.again.read_manifest().drop(columns="dhash"))
    assert len(dataset.read_manifest()) == 60
