"""What a run was made of is found again: the weights of every backbone by their hash, the libraries by the lock."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from flows.lineage import restoring
from flows.lineage.origin import LOCK
from flows.lineage.restoring import restore_config, restore_data, restore_environment, restore_weights
from flows.lineage.subject import Subject
from tasks.errors import ConfigurationError, RegistryError, WeightsError
from tasks.extract.weights import read_weights
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.workspace import Workspace

OURS, THEIRS = (read_weights("resnet_32px", source, Path()).digest for source in ("builtin", "random"))


class Made(Subject):
    """What a run keeps that was made from two backbones."""

    digests = f"{OURS} + {THEIRS}"

    @property
    def config(self) -> dict[str, Any]:
        other = {"backbone": "resnet_32px", "weights": "random", "size": 24}
        return {"name": "x", "extract": {"backbone": "resnet_32px", "weights": "builtin", "beside": [other]}}

    @property
    def tags(self) -> dict[str, str]:
        return {"backbone.digest": self.digests}


def test_each_backbone_is_restored_in_its_place(workspace: Workspace, tmp_path: Path) -> None:
    made = Made(None, None, None)  # type: ignore[arg-type]
    weights = restore_weights(made, workspace)
    assert weights == ["builtin", "random"]
    path = restore_config(made, {"version": "v"}, ["a.pth", "b.pth"], workspace, tmp_path / "config.yaml")
    extract = yaml.safe_load(path.read_text())["extract"]
    assert extract["weights"] == "a.pth"
    assert extract["beside"] == [{"backbone": "resnet_32px", "weights": "b.pth", "size": 24}]


def test_a_version_of_tasks_is_read_with_their_kinds_and_units(workspace: Workspace, tmp_path: Path) -> None:
    source = {
        "embedded": "digits",
        "label": {"ink": {"column": "ink", "kind": "number", "unit": "parts"}, "odd": "even"},
    }
    dataset = ingest_images(IngestConfig.model_validate({"source": source}), workspace, into_data=False)

    class Ingested(Made):
        config = {"ingest": {"source": source}}  # noqa: RUF012
        tags = {"data.version": dataset.version}  # noqa: RUF012

    home = Workspace(tmp_path / "home")
    home.root.mkdir()
    restored = restore_data(Ingested(None, None, None), workspace, home)  # type: ignore[arg-type]
    assert restored["tasks"] == {"ink": {"kind": "number", "unit": "parts"}, "odd": {"kind": "class", "unit": ""}}
    config = IngestConfig.model_validate({"source": restored, "split": {"by": "given"}})
    again = ingest_images(config, home, into_data=False)
    assert (again.version, again.targets) == (dataset.version, dataset.targets)


@pytest.mark.parametrize(("said", "asked"), [("True", "always"), ("False", "never"), (None, "auto")])
def test_features_are_made_again_by_the_same_forward_pass_whatever_a_stopwatch_says(
    said: str | None, asked: str, workspace: Workspace, tmp_path: Path
) -> None:
    class Timed(Made):
        @property
        def tags(self) -> dict[str, str]:
            return {"backbone.compiled": said} if said else {}

    made = Timed(None, None, None)  # type: ignore[arg-type]
    path = restore_config(made, {"version": "v"}, ["a.pth", "b.pth"], workspace, tmp_path / "config.yaml")
    assert yaml.safe_load(path.read_text())["extract"]["compile"] == asked


def test_as_many_images_are_looked_through_again_as_were_whatever_a_stopwatch_says(
    workspace: Workspace, tmp_path: Path
) -> None:
    class Timed(Made):
        @property
        def metrics(self) -> dict[str, float]:
            return {"inspected/robustness": 17.0, "images/test": 365.0}

    made = Timed(None, None, None)  # type: ignore[arg-type]
    path = restore_config(made, {"version": "v"}, ["a.pth", "b.pth"], workspace, tmp_path / "config.yaml")
    assert yaml.safe_load(path.read_text())["evaluate"] == {"robustness": 17}


class Locked(Made):
    """What a run keeps that was made with these libraries."""

    kept: str | None = "numpy==2.1.0\ntorch==2.9.0\n"

    def text(self, artifact: str) -> str | None:
        return self.kept if artifact == LOCK else None


class Unlocked(Locked):
    kept = None


LOCKED, UNLOCKED = Locked(None, None, None), Unlocked(None, None, None)  # type: ignore[arg-type]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The libraries that are installed: those of the run."""
    found = {"numpy": "2.1.0", "torch": "2.9.0"}
    monkeypatch.setattr(restoring, "installed", lambda: found)
    return found


def test_an_environment_is_the_runs_where_its_libraries_are(here: dict[str, str], tmp_path: Path) -> None:
    here["pandas"] = "3.0.0"  # which the run had no need of
    assert restore_environment(LOCKED, "same", tmp_path) == sys.executable
    del here["numpy"]
    told = r"in 1 package: numpy 2.1.0 → not installed. `--environment new` .* `--environment here`"
    with pytest.raises(ConfigurationError, match=told):
        restore_environment(LOCKED, "same", tmp_path)
    here["torch"] = "2.8.0"
    with pytest.raises(ConfigurationError, match=r"in 2 packages: numpy .*, torch 2.9.0 → 2.8.0\. "):
        restore_environment(LOCKED, "same", tmp_path)
    assert restore_environment(LOCKED, "here", tmp_path) == sys.executable


@pytest.mark.parametrize("how", ["same", "new"])
def test_without_a_lock_only_this_environment_is_to_be_had(how: Any, here: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"nothing keeps no lock of its libraries: `--environment here`"):
        restore_environment(UNLOCKED, how, tmp_path)
    assert restore_environment(UNLOCKED, "here", tmp_path) == sys.executable


@pytest.mark.parametrize("fails", [False, True])
def test_a_new_environment_is_installed_from_the_lock(
    fails: bool, here: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=int(fails and "pip" in command), stderr="looking\nno such package\n\n")

    monkeypatch.setattr(restoring.subprocess, "run", run)
    into, lock = tmp_path / "environment", tmp_path / "environment.txt"
    if fails:
        with pytest.raises(RegistryError, match=r"txt cannot be installed \(no such package\): `--environment here`"):
            restore_environment(LOCKED, "new", into)
    else:
        assert restore_environment(LOCKED, "new", into) == str(into / "bin" / "python")
    (_, *venv), (python, *pip) = commands
    assert venv == ["-m", "venv", str(into)] and python == str(into / "bin" / "python")
    assert pip[:3] == ["-m", "pip", "install"] and pip[-2:] == ["-r", str(lock)] and lock.read_text() == Locked.kept


def test_weights_that_are_others_now_are_told_with_the_backbone_s_hash(workspace: Workspace) -> None:
    class Changed(Made):
        digests = f"{OURS} + {OURS}"

    with pytest.raises(WeightsError, match=rf"SHA-256 {OURS[:12]}\) is gone: random holds others"):
        restore_weights(Changed(None, None, None), workspace)  # type: ignore[arg-type]
