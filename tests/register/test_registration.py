"""Registration as a whole: once for each candidate, whoever else is at it, and finished where it was broken off."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from PIL import Image

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.door import evaluate_candidate
from tasks.model.bundle import bundle_in
from tasks.records import Candidate, Evaluation, RegisteredModel
from tasks.register import door, gate, moves
from tasks.register.config import RegisterConfig
from tasks.register.door import register_candidate
from tasks.register.registry import get_model
from tasks.register.turns import ALIVE
from tasks.train.methods.linear import Linear
from tasks.workspace import Workspace
from tests.register import apart
from tests.train.prepared import Prepared, prepare


@dataclass(frozen=True)
class Trained:
    """What the stages before registration hand on."""

    ready: Prepared
    candidate: Candidate
    evaluation: Evaluation


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    workspace = Workspace(tmp_path_factory.mktemp("photos"))
    random = np.random.default_rng(0)
    for label, level in (("dark", 60), ("light", 160)):
        (workspace.root / "photos" / label).mkdir(parents=True)
        for number in range(60):
            pixels = random.integers(level, level + 60, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(workspace.root / "photos" / label / f"{number}.png")
    ready = prepare({"folder": "photos"}, workspace)
    candidate = ready.train(Linear(), workspace.root)
    evaluation = evaluate_candidate(EvaluateConfig(resamples=100), ready.dataset, ready.features, candidate, workspace)
    return Trained(ready, candidate, evaluation)


Register = Callable[..., RegisteredModel]


@pytest.fixture
def register(trained: Trained, client: MlflowClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Register:
    monkeypatch.chdir(workspace.root)
    experiment = client.create_experiment("photos", (workspace.mlruns / "artifacts").as_uri())

    def register(made: Trained = trained, promote: str = "auto", **more: Any) -> RegisteredModel:
        run = client.create_run(experiment)
        config = RegisterConfig.model_validate({"promote": promote} | more)
        return register_candidate(
            config, "photos", run.info.run_id, made.ready.dataset, made.ready.preprocessed, made.ready.features,
            made.candidate, made.evaluation, workspace,
        )  # fmt: skip

    return register


def renamed(made: Trained, name: str) -> Trained:
    return replace(made, candidate=made.candidate.model_copy(update={"fingerprint": name}))


@pytest.mark.slow
def test_a_candidate_is_registered_once_and_the_alias_that_is_told_is_the_one_it_has(
    register: Register, trained: Trained, client: MlflowClient
) -> None:
    first = register()
    assert (first.version, first.alias, first.verdict, first.new) == (1, "champion", "passed: the first version", True)
    assert register(renamed(trained, "twin")).alias == "champion"
    again = register()
    assert (again.version, again.alias, again.new) == (1, None, False)
    assert again.verdict == "nothing changed: this is version 1"
    gated = register(gates=[{"gate": "size", "megabytes": 0.001, "on_failure": "reject"}])
    assert gated.verdict == "nothing changed: this is version 1; as it is written now, it was not judged by size"
    moves.rollback(client, "photos", "no", "ada")
    assert register().alias == "champion"
    third = register(renamed(trained, "third"))
    assert third.alias == "challenger" and "ada rolled back to version 1" in third.verdict


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before the verdict", "before the alias", "before it is given its verdict"])
def test_what_a_killed_run_left_half_done_is_finished_by_the_next_one(
    when: str, register: Register, trained: Trained, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*arguments: object) -> None:
        if ALIVE not in arguments:  # signs of life are given in another thread
            raise Killed

    with monkeypatch.context() as killing:
        match when:
            case "before the verdict":
                killing.setattr(door, "decide", kill)
            case "before the alias":
                killing.setattr(MlflowClient, "set_registered_model_alias", kill)
            case _:
                killing.setattr(MlflowClient, "set_model_version_tag", kill)
        with pytest.raises(Killed):
            register()
    assert gate.VERDICT not in client.get_model_version("photos", "1").tags
    if when == "before the verdict":
        other = register(renamed(trained, "other"))  # a run of something else finishes it, too
        assert [move.version for move in moves.history(client, "photos")] == [1, 2] and other.alias == "champion"
    else:
        done = register()
        assert (done.version, done.alias, done.verdict, done.new) == (1, "champion", "passed: the first version", False)
        assert len(moves.history(client, "photos")) == 1
    assert client.get_model_version("photos", "1").tags[gate.VERDICT] == "passed: the first version"


def test_a_champion_of_other_means_does_not_stop_a_run(
    register: Register, trained: Trained, client: MlflowClient
) -> None:
    client.create_registered_model("photos")
    client.create_model_version("photos", "file:///nowhere")
    client.set_registered_model_alias("photos", "champion", "1")
    made = register()
    assert (made.version, made.alias) == (2, "challenger") and "version 1) does not say" in made.verdict
    assert [move.action for move in moves.history(client, "photos")] == ["outside"]


@pytest.mark.slow
def test_a_version_that_lost_its_files_is_registered_anew(
    register: Register, client: MlflowClient, workspace: Workspace
) -> None:
    register()
    folder = Path(urlparse(client.get_model_version_download_uri("photos", "1")).path)
    assert folder.is_relative_to(workspace.mlruns)
    shutil.rmtree(folder)
    again = register()
    assert (again.version, again.alias, again.new) == (2, "champion", True)


def test_a_version_that_shall_wait_waits_for_a_person(register: Register, client: MlflowClient) -> None:
    made = register(promote="never")
    assert made.alias == "challenger" and made.verdict == (
        "passed: the first version; waits, since register.promote is never"
    )
    assert register(promote="auto").alias == "challenger"
    moves.promote(client, "photos", 1, "")
    assert register().alias == "champion"


def test_of_a_model_that_lies_elsewhere_a_registration_leaves_no_copy(
    trained: Trained, client: MlflowClient, workspace: Workspace, elsewhere: str, temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(workspace.root)
    client.create_experiment("photos", elsewhere)
    made = register_gated(trained, client, workspace)
    assert made.alias == "champion" and [ruling.outcome for ruling in made.rulings] == ["pass"] * len(made.rulings)
    assert client.get_model_version_download_uri("photos", "1").startswith(elsewhere)
    assert not list(temporary.iterdir())


@pytest.mark.slow
def test_runs_at_once_over_a_server_register_a_candidate_once_and_judge_one_after_another(
    trained: Trained, client: MlflowClient, server: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    names = ("one", "one", "two")
    records = (trained.ready.dataset, trained.ready.preprocessed, trained.ready.features)
    for number, name in enumerate(names):
        handed_on = (*records, renamed(trained, name).candidate, trained.evaluation)
        (workspace.root / f"{number}.json").write_text(
            json.dumps([record.model_dump(mode="json") for record in handed_on])
        )
    apart.run(server, "register", "photos", *(f"{number}.json" for number in range(len(names))))
    versions = client.search_model_versions("name='photos'")
    assert sorted(version.tags["candidate"] for version in versions) == ["one", "two"]
    assert sorted(version.tags[gate.VERDICT][:40] for version in versions) == [
        "passed: the first version", "passed: validation accuracy 1.0000, cham",
    ]  # fmt: skip
    assert [move.previous for move in moves.history(client, "photos")] == [None, 1]
    assert int(get_model(client, "photos").aliases["champion"]) == 2


def register_gated(
    made: Trained, client: MlflowClient, workspace: Workspace, gates: list[Any] | None = None
) -> RegisteredModel:
    experiment = client.get_experiment_by_name("photos")
    assert experiment is not None
    ready, run = made.ready, client.create_run(experiment.experiment_id)
    return register_candidate(
        RegisterConfig.model_validate({"gates": gates or []}), "photos", run.info.run_id, ready.dataset,
        ready.preprocessed, ready.features, made.candidate, made.evaluation, workspace,
    )  # fmt: skip


def altered(change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a package changed as soon as MLflow has it."""
    log_model = door.log_model

    def log_and_change(*arguments: Any) -> str:
        uri = log_model(*arguments)
        change(bundle_in(Path(mlflow.artifacts.download_artifacts(uri))))
        return uri

    monkeypatch.setattr(door, "log_model", log_and_change)


def _other_size(bundle: Path) -> None:
    about = json.loads((bundle / "classifier.json").read_text())
    about["recipe"]["size"] *= 2
    (bundle / "classifier.json").write_text(json.dumps(about))


def _classes_turned(bundle: Path) -> None:
    about = json.loads((bundle / "classifier.json").read_text())
    (bundle / "classifier.json").write_text(json.dumps(about | {"classes": about["classes"][::-1]}))


def _no_head(bundle: Path) -> None:
    (bundle / "head.safetensors").unlink()


@pytest.mark.slow
def test_a_package_that_is_not_the_evaluated_model_is_rejected_by_parity(
    register: Register, trained: Trained, client: MlflowClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, (change, told) in enumerate(
        [(_classes_turned, "rejected: the packaged model is not the evaluated one: 12 of 12 held-out images"),
         (_other_size, "rejected: the packaged model is not the evaluated one: "),
         (_no_head, "rejected: the packaged model cannot be used: ")]
    ):  # fmt: skip
        with monkeypatch.context() as altering:
            altered(change, altering)
            made = register_gated(renamed(trained, f"altered {number}"), client, workspace)
        assert (made.alias, made.pending) == (None, False) and made.verdict.startswith(told), made.verdict
        assert made.verdict.endswith("(gate parity)")
        about = client.get_model_version("photos", str(made.version)).description
        assert (
            about.startswith(f"### {made.verdict[:40]}") and "| parity | reject | at most 0.01 |" in about
        ) or number == 2
    assert register().alias == "champion", "what is whole passes, and is the first version that does"


@pytest.mark.slow
def test_bad_candidates_are_stopped_by_the_right_gate(
    register: Register, trained: Trained, client: MlflowClient, workspace: Workspace, tmp_path: Path
) -> None:
    slow = register_gated(renamed(trained, "slow"), client, workspace, [{"gate": "latency", "p95": 0.001}])
    assert slow.alias == "challenger" and slow.pending
    assert slow.verdict.startswith("needs approval: p95 ") and slow.verdict.endswith("(gate latency)")
    rows = trained.ready.dataset.read_manifest()
    random = np.random.default_rng(0)
    shuffled = trained.ready.with_rows(rows.assign(label=random.permutation(rows["label"])), tmp_path)
    assert_stopped(shuffled, "chance", "rejected: validation accuracy ", client, workspace, tmp_path)
    held_out = rows[rows["split"] == "test"]
    copies = held_out.assign(split="train", path="copy/" + held_out["path"])
    leaked = trained.ready.with_rows(pd.concat([rows, copies], ignore_index=True), tmp_path)
    told = f"needs approval: test: {len(held_out)} of {len(held_out)} images have a near neighbour among those learned"
    assert_stopped(leaked, "leak", told, client, workspace, tmp_path)


def assert_stopped(
    ready: Prepared, gate: str, told: str, client: MlflowClient, workspace: Workspace, folder: Path
) -> None:
    candidate = ready.train(Linear(), folder)
    evaluation = evaluate_candidate(
        EvaluateConfig(resamples=100), ready.dataset, ready.features, candidate, Workspace(folder)
    )
    made = register_gated(Trained(ready, candidate, evaluation), client, workspace)
    assert made.alias != "champion" and made.verdict.startswith(told) and f"(gate {gate})" in made.verdict, made.verdict
