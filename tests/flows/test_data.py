"""The dataset of a registered model, restored on another clone; versions listed, compared and shared."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml

from flows import transfer
from flows.commands import data
from flows.commands.review import apply_review, write_review
from flows.config import PipelineConfig, read_config
from flows.stores.shared import beside_another
from tasks.errors import ConfigurationError, RegistryError
from tasks.ingest.corrections import corrections_file, read_corrections
from tasks.ingest.door import ingest_images
from tasks.ingest.pointer import current_version, pointer_to
from tasks.ingest.versioning import read_manifest
from tasks.register.store import connect
from tasks.workspace import Workspace

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / "configs" / "digits.yaml")


@dataclass
class Clone:
    """A git clone that a member of the team works in; all of them log to one MLflow store."""

    root: Path
    store: str

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "HEADSTART_"))}
        environment = kept | {"MLFLOW_TRACKING_URI": self.store, "COLUMNS": "160", "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=240)

    def headstart(self, *arguments: str) -> str:
        """Standard output of a command that must succeed and say nothing on standard error."""
        done = self.run(sys.executable, "-m", "flows.cli", *arguments)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done.stdout

    def refused(self, *arguments: str) -> str:
        """The one line of a command that must fail."""
        done = self.run(sys.executable, "-m", "flows.cli", *arguments)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        return done.stderr

    def git(self, *arguments: str) -> None:
        done = self.run("git", "-c", "user.name=team", "-c", "user.email=team@example.org", *arguments)
        assert done.returncode == 0, done.stderr

    def dvc(self, *arguments: str) -> None:
        done = self.run(sys.executable, "-m", "dvc", *arguments)
        assert done.returncode == 0, done.stderr

    @property
    def version(self) -> str:
        return yaml.safe_load((self.root / "data.dvc").read_text())["outs"][0]["md5"]

    def files(self) -> dict[str, str]:
        found = (path for path in (self.root / "data").rglob("*") if path.is_file())
        return {str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture
def clones(tmp_path: Path, openssh) -> tuple[Clone, Clone]:
    """Two clones of a repository whose DVC remote is reached over SSH."""
    first = Clone(tmp_path / "first", f"sqlite:///{tmp_path}/mlflow.db")
    first.root.mkdir()
    first.git("init", "--quiet")
    first.dvc("init", "--quiet")
    first.dvc("remote", "add", "-d", "team", f"{openssh.url}{tmp_path / 'store'}")
    first.git("add", ".")
    first.git("commit", "--quiet", "-m", "a DVC repository")
    first.git("clone", "--quiet", ".", str(tmp_path / "second"))
    second = Clone(tmp_path / "second", first.store)
    for clone in (first, second):
        clone.dvc("remote", "modify", "--local", "team", "keyfile", str(openssh.key))
    return first, second


@pytest.mark.slow
@pytest.mark.openssh
def test_the_data_of_a_registered_model_is_restored_bit_for_bit_on_another_clone(clones: tuple[Clone, Clone]) -> None:
    first, second = clones
    try:
        first.headstart("run", DIGITS, "--quiet")
    finally:
        first.headstart("ui", "--stop")
    learned_from, version = first.files(), first.version
    assert len(learned_from) == 1798

    # The team goes on with other data before anybody asks for the model's.
    _draw(first.root / "mine")
    assert "30 test" in first.headstart("data", "ingest", _config(first.root))
    assert "1,799 files sent to ssh://" in first.headstart("data", "push", "digits@champion")
    assert "1,799 fetched" in second.headstart("data", "checkout", "digits")
    assert second.files() == learned_from
    assert second.version == version != first.version

    _see_what_the_other_clone_knows(first, second, version)


def _see_what_the_other_clone_knows(first: Clone, second: Clone, version: str) -> None:
    listed = second.headstart("data", "list")
    assert version[:12] in listed and "digits@1" in listed and "current" in listed
    first.headstart("data", "push")
    newer = first.version
    changes = second.root / "changes.csv"
    assert "went" in second.headstart("data", "diff", "digits@1", newer, "-o", str(changes))
    counts = pd.read_csv(changes)["change"].value_counts().to_dict()
    assert counts == {"went": 1797, "came": 90}
    assert "no dataset version, run or model is called 'mine'" in second.refused("data", "checkout", "mine")
    assert "no version or alias '7'" in second.refused("data", "checkout", "digits@7")
    second.headstart("data", "checkout", newer)
    assert second.files() == first.files()
    second.headstart("data", "checkout", version[:6])
    assert second.version == version


def test_a_run_that_finds_its_dataset_in_the_cache_brings_back_a_lost_data_dvc_and_names_its_own_version(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    _draw(workspace.root / "mine")
    config = read_config(Path(_config(workspace.root)), [], PipelineConfig)
    dataset = ingest_images(config.ingest, workspace)
    monkeypatch.setattr(transfer, "ingest", lambda _: dataset)
    pointer, files = workspace.dvc_file.read_text(), {path: path.read_bytes() for path in workspace.data.rglob("*.png")}
    assert pointer_to(dataset.version, workspace) == pointer

    workspace.dvc_file.unlink()
    first, *_ = files
    first.unlink()
    (workspace.data / "mine.txt").write_text("mine")
    assert transfer._ingested(config, workspace) == dataset
    assert workspace.dvc_file.read_text() == pointer and (workspace.data / "mine.txt").read_text() == "mine"
    assert {path: path.read_bytes() for path in workspace.data.rglob("*.png")} == files

    another = read_config(Path(_config(workspace.root)), ["ingest.split.val=0.4"], PipelineConfig)
    other = ingest_images(another.ingest, workspace).version
    assert transfer._ingested(config, workspace) == dataset and current_version(workspace) == other
    named = yaml.safe_load(pointer_to(dataset.version, workspace))
    assert named["outs"][0] == {"md5": dataset.version, "hash": "md5", "path": "data"} and other != dataset.version


@pytest.fixture
def theirs(tmp_path: Path) -> Clone:
    """A workspace whose ``data/`` and ``data.dvc`` are the user's."""
    clone = Clone(tmp_path, f"sqlite:///{tmp_path}/mlflow.db")
    (clone.root / "data").mkdir()
    (clone.root / "data/mine.txt").write_bytes(b"mine")
    clone.dvc("init", "--no-scm", "--quiet")
    clone.dvc("add", "data", "--quiet")
    return clone


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [("run", DIGITS), ("schedule", DIGITS, "--interval", "60")], ids=["run", "schedule"]
)
def test_a_data_dvc_of_the_users_stops_a_pipeline_before_any_work(theirs: Clone, command: tuple[str, ...]) -> None:
    before, mine = (theirs.root / "data.dvc").read_bytes(), theirs.files()
    told = theirs.refused(*command)
    assert "--replace" in told and "HEADSTART_WORKSPACE" in told
    assert theirs.files() == mine and (theirs.root / "data.dvc").read_bytes() == before
    assert not (theirs.root / "mlruns/prefect/server.json").exists()


@pytest.mark.slow
def test_a_data_dvc_of_the_users_is_replaced_where_they_say_so_and_kept(theirs: Clone) -> None:
    before, mine = (theirs.root / "data.dvc").read_bytes(), theirs.files()
    shown = theirs.headstart("data", "ingest", DIGITS, "--replace")
    assert "your data.dvc is kept as data.dvc.replaced" in shown and len(theirs.files()) == 1798
    assert (theirs.root / "data.dvc.replaced").read_bytes() == before
    digits = theirs.version
    (theirs.root / "data.dvc.replaced").replace(theirs.root / "data.dvc")
    theirs.dvc("checkout", "--force", "--quiet")
    assert theirs.files() == mine
    assert "--replace" in theirs.refused("data", "checkout", digits)
    shown = theirs.headstart("data", "checkout", digits, "--replace")
    assert "your data.dvc is kept as data.dvc.replaced" in shown and len(theirs.files()) == 1798


def _draw(folder: Path) -> None:
    import numpy as np
    from PIL import Image

    for index in range(90):
        path = folder / ("train", "train", "test")[index % 3] / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), index, np.uint8)).save(path)


def _config(root: Path) -> str:
    path = root / "mine.yaml"
    path.write_text("name: mine\ningest: {source: {folder: mine}, split: {val: 0.2}}")
    return str(path)


@pytest.fixture
def reviewed(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Workspace, str]:
    """A workspace whose pipeline ``mine`` has a run on a dataset, which doubts the labels of two images."""
    monkeypatch.chdir(workspace.root)
    _draw(workspace.root / "mine")
    config = read_config(Path(_config(tmp_path)), [], PipelineConfig)
    dataset = ingest_images(config.ingest, workspace)
    client = connect(workspace)
    run = client.create_run(client.create_experiment("mine", str(tmp_path / "artifacts"))).info.run_id
    doubted = dataset.read_manifest().head(2)[["path", "hash", "split", "label"]]
    doubted.assign(suggested="b", why="b 0.99, a 0.001", score=0.99).to_csv(tmp_path / "suspects.csv", index=False)
    client.log_artifact(run, str(tmp_path / "suspects.csv"), "tables")
    client.log_text(run, yaml.safe_dump(config.model_dump(mode="json", by_alias=True)), "config.yaml")
    for tag, value in {"data.version": dataset.version, "dataset": dataset.fingerprint, "evaluation": "e"}.items():
        client.set_tag(run, tag, value)
    client.log_metric(run, "suspects", 2)
    client.set_terminated(run)
    ranking = client.create_run(client.get_experiment_by_name("mine").experiment_id).info.run_id
    client.set_tag(ranking, "data.version", dataset.version)  # newer, of the same data, and without its files
    client.set_terminated(ranking)
    return workspace, dataset.version


@pytest.mark.slow
def test_labels_are_reviewed_and_corrected_in_three_commands(
    reviewed: tuple[Workspace, str], capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, before = reviewed
    data.review("mine", None)
    file = Path("mine-labels-to-review.csv")
    assert capsys.readouterr().out.splitlines() == [
        f"{file}: 2 labels that may be wrong, the surest first",
        "write the right one into the column label, or nothing to leave the image out; rows that stay as they are "
        "change nothing",
        f"then: headstart data relabel {file}",
    ]
    table = pd.read_csv(file)
    assert list(table.columns) == ["label", "suggested", "why", "score", "was", "split", "path", "hash"]
    with pytest.raises(ConfigurationError, match="is there already, perhaps edited"):
        data.review("mine", None)

    data.relabel(file, "current")
    assert "nothing is new in it" in capsys.readouterr().out and not corrections_file(workspace).exists()
    table.loc[0, "label"] = {"a": "b", "b": "a"}[table.loc[0, "was"]]
    table.to_csv(file, index=False)
    data.relabel(file, "current")
    told = capsys.readouterr().out
    assert "data.labels.csv: 1 new correction" in told and "relabelled" in told and "then: headstart run" in told
    after = current_version(workspace)
    assert after is not None and after != before
    labels = read_manifest(after, workspace).set_index("path")["label"]
    assert labels[table.loc[0, "path"]] == table.loc[0, "label"]
    data.relabel(file, before)
    assert "nothing is new in it" in capsys.readouterr().out


def test_where_another_workspace_has_the_name_already_ones_own_runs_are_reviewed(
    reviewed: tuple[Workspace, str], tmp_path: Path
) -> None:
    workspace, _ = reviewed
    client = connect(workspace)
    client.rename_experiment(client.get_experiment_by_name("mine").experiment_id, beside_another("mine", workspace))
    theirs = client.create_run(client.create_experiment("mine", str(tmp_path / "theirs"))).info.run_id
    client.set_tag(theirs, "evaluation", "e")
    client.set_terminated(theirs)
    assert write_review("mine", tmp_path / "list.csv", workspace) == (2, 2)


def test_copies_under_different_labels_are_reviewed_first_and_corrected(
    reviewed: tuple[Workspace, str], tmp_path: Path
) -> None:
    workspace, version = reviewed
    client = connect(workspace)
    experiment = client.get_experiment_by_name("mine").experiment_id
    run = client.search_runs([experiment], "tags.dataset != ''")[0].info.run_id
    copies = [("train/a/c.png", "f" * 32, "", "a"), ("train/b/c.png", "f" * 32, "", "b")]
    table = pd.DataFrame(copies, columns=["path", "hash", "split", "label"])
    table.to_csv(tmp_path / "contradictions.csv", index=False)
    client.log_artifact(run, str(tmp_path / "contradictions.csv"), "data")
    file = tmp_path / "list.csv"
    assert write_review("mine", file, workspace) == (4, 4)
    listed = pd.read_csv(file)
    assert listed["path"].tolist()[:2] == ["train/a/c.png", "train/b/c.png"] and listed["score"].tolist()[:2] == [1, 1]
    assert listed["suggested"].tolist()[:2] == ["b", "a"]

    listed.loc[1, "label"] = "a"
    listed.drop(index=0).to_csv(file, index=False)
    kept, count = apply_review(file, version, workspace, new_classes=False)
    assert kept == corrections_file(workspace) and count == 1
    assert [(each.label, each.was, each.path) for each in read_corrections(workspace).values()] == [
        ("a", "b", "train/b/c.png")
    ]


def test_a_review_of_what_was_never_run_is_refused_in_a_line(workspace: Workspace) -> None:
    with pytest.raises(RegistryError, match="there is no pipeline 'mine' among those that were run: none yet"):
        data.review("mine", None)
