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
@pytest.mark.parametrize("command", [("run", DIGITS), ("serve", DIGITS, "--interval", "60")], ids=["run", "serve"])
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
