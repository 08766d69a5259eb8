"""Where a model comes from, told from what its run kept."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from flows.commands.reports import _predictions
from flows.lineage.openlineage import event
from flows.lineage.origin import installed, log_origin
from flows.lineage.subject import PARENT, TRIAL, find_subject
from flows.lineage.tree import facts_of, show
from tasks.errors import RegistryError
from tasks.register import moves
from tasks.register.registry import CANDIDATE
from tasks.workspace import Workspace
from tests.register.conftest import Fill, client, elsewhere, empty_store, fill, temporary  # noqa: F401

CONFIG = {"name": "birds", "preprocess": {"size": 32}, "train": {"method": "linear", "seed": 7}}
TAGS = {
    "data.version": "d" * 32 + ".dir", "data.source": "folder:birds", "candidate": "c0ffee", "backbone.backbone": "net",
    "backbone.weights": "builtin", "backbone.digest": "b" * 64, "backbone.device": "cpu", "machine.threads": "2",
    "code.version": "abc",
}  # fmt: skip


@pytest.fixture
def birds(client: MlflowClient, fill: Fill) -> str:  # noqa: F811
    """A model with three versions of other means, and a champion made by a run; returns the run's id."""
    fill(client, "birds", 3)
    run = client.create_run(client.create_experiment("birds"), run_name="birds-1", tags=TAGS).info.run_id
    client.log_text(run, yaml.safe_dump(CONFIG), "config.yaml")
    for name, value in {"images/train": 30, "images/test": 10, "test/accuracy": 0.9, "test/accuracy_low": 0.7,
                        "test/accuracy_high": 0.98, "chosen/l2": 0.01}.items():  # fmt: skip
        client.log_metric(run, name, value)
    log_origin(client, run)
    client.set_terminated(run, "FINISHED")
    source = client.get_model_version("birds", "1").source
    tags = {CANDIDATE: "c0ffee", "data_version": TAGS["data.version"], "verdict": "passed", "held_out": "0.9 (test)"}
    client.create_model_version("birds", source, run, tags)
    moves.promote(client, "birds", 4, why="good", who="ada")
    return run


@pytest.mark.parametrize("which", ["birds@champion", "birds@4", "birds/4", "birds", "models:/birds@champion", "RUN"])
def test_a_version_and_its_run_are_found_by_any_of_their_names(
    which: str, birds: str, client: MlflowClient, workspace: Workspace  # noqa: F811
) -> None:  # fmt: skip
    found = find_subject(client, which.replace("RUN", birds[:10]))
    assert found.run is not None and found.run.info.run_id == birds
    assert (found.version is None) == (which == "RUN")


def test_a_run_within_a_budget_is_found_by_its_number_and_a_trial_is_not(
    birds: str, client: MlflowClient, workspace: Workspace  # noqa: F811
) -> None:  # fmt: skip
    client.set_tag(birds, PARENT, "a" * 32)
    assert (found := find_subject(client, birds[:10]).run) is not None and found.info.run_id == birds
    client.set_tag(birds, TRIAL, "complete")
    with pytest.raises(RegistryError, match="no run begins with it"):
        find_subject(client, birds[:10])


def test_what_there_is_not_is_told(birds: str, client: MlflowClient) -> None:  # noqa: F811
    with pytest.raises(RegistryError, match=r"'fish': there is no registered model of that name \(birds\), and no run"):
        find_subject(client, "fish")
    with pytest.raises(RegistryError, match="no version or alias"):
        find_subject(client, "birds@9")


def test_lineage_goes_from_the_decision_to_the_libraries(
    birds: str, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = facts_of(workspace, "birds@champion")
    assert facts["dataset"]["splits"] == {"train": 30, "test": 10} and facts["dataset"]["images"] == 40
    assert facts["candidate"]["settings"] == CONFIG["train"] and facts["candidate"]["chosen"] == {"l2": 0.01}
    assert facts["features"]["digest"] == "b" * 64
    assert facts["environment"]["libraries"]["torch"] == installed()["torch"]
    assert facts["environment"]["threads"] == "2" and facts["environment"]["device"] == "cpu"
    assert facts["gates"] == {"verdict": "passed"}
    assert re.fullmatch(r"champion none → 4 \(promote\) by ada on \S+, .* UTC: good", facts["moves"][0])
    show(facts)
    told = capsys.readouterr().out
    assert "test/accuracy: 0.9000 [0.7000, 0.9800]" in told
    assert f"fetch: headstart data checkout {'d' * 32}" in told and "b" * 64 in told


def test_a_version_tells_what_it_knows_when_its_run_is_gone(
    client: MlflowClient,  # noqa: F811
    workspace: Workspace,
    fill: Fill,  # noqa: F811
) -> None:
    fill(client, "birds", 1)
    source = client.get_model_version("birds", "1").source
    client.create_model_version("birds", source, "0" * 32, {CANDIDATE: "c", "data_version": "v", "method": "linear"})
    facts = facts_of(workspace, "birds@2")
    assert facts["run"] == {} and facts["dataset"]["version"] == "v" and facts["candidate"]["method"] == "linear"
    assert check_event(event(facts))["eventType"] == "OTHER"


def test_what_a_run_keeps_elsewhere_is_read_and_no_copy_of_it_stays(
    client: MlflowClient,  # noqa: F811
    elsewhere: str,  # noqa: F811
    temporary: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    run = client.create_run(client.create_experiment("birds", elsewhere)).info.run_id
    client.log_text(run, "name: birds", "config.yaml")
    pd.DataFrame({"path": ["a"]}).to_parquet(tmp_path / "test_predictions.parquet")
    client.log_artifact(run, str(tmp_path / "test_predictions.parquet"), "tables")
    subject = find_subject(client, run)
    assert subject.config == {"name": "birds"} and subject.content("nothing of that name") is None
    predictions = _predictions(client, client.get_run(run), "test")
    assert predictions is not None and predictions["path"].tolist() == ["a"]
    assert not list(temporary.iterdir())


def test_decisions_about_a_deleted_model_are_not_told_of_one_that_has_its_name(
    birds: str, client: MlflowClient, workspace: Workspace  # noqa: F811
) -> None:  # fmt: skip
    client.delete_registered_model("birds")
    client.create_registered_model("birds")
    for _ in range(4):
        client.create_model_version("birds", "file:///nowhere", birds)
    assert not facts_of(workspace, "birds@4").get("moves")


def test_lineage_is_an_event_of_openlineages(birds: str, workspace: Workspace) -> None:
    told = check_event(json.loads(json.dumps(event(facts_of(workspace, "birds@champion")))))
    assert told["eventType"] == "COMPLETE" and told["run"]["runId"] == str(UUID(birds))
    data, backbone = told["inputs"]
    assert data["facets"]["version"]["datasetVersion"] == TAGS["data.version"] and data["name"] == "folder:birds"
    assert backbone["facets"]["version"]["datasetVersion"] == "b" * 64
    [model] = told["outputs"]
    assert model["name"] == "models:/birds" and model["facets"]["version"]["datasetVersion"] == "4"
    assert model["facets"]["headstart_model"]["moves"]


def check_event(told: dict[str, Any]) -> dict[str, Any]:
    """What the specification (OpenLineage 2-0-2) requires of a run event."""
    assert {"eventType", "eventTime", "producer", "schemaURL", "run", "job", "inputs", "outputs"} == told.keys()
    assert told["eventType"] in ("START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$", told["eventTime"])
    UUID(told["run"]["runId"])
    things = [told["job"], *told["inputs"], *told["outputs"]]
    assert all(thing["namespace"] and thing["name"] for thing in things)
    for thing in [told["run"], *things]:
        for name, facet in thing["facets"].items():
            assert re.fullmatch(r"version|jobType|headstart_\w+", name)  # standard ones, and ours with our prefix
            assert all(re.match(r"(urn|https):\S+$", facet[key]) for key in ("_producer", "_schemaURL"))
    return told
