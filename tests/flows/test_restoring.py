"""The weights of every backbone are found again by their hash, where the configuration names them or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.restoring import restore_config, restore_data, restore_weights
from flows.subject import Subject
from tasks.errors import WeightsError
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


def test_weights_that_are_others_now_are_told_with_the_backbone_s_hash(workspace: Workspace) -> None:
    class Changed(Made):
        digests = f"{OURS} + {OURS}"

    with pytest.raises(WeightsError, match=rf"SHA-256 {OURS[:12]}\) is gone: random holds others"):
        restore_weights(Changed(None, None, None), workspace)  # type: ignore[arg-type]
