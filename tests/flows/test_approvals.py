"""What a person answers on Prefect's page, and who does it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows import approvals
from flows.approvals import Asked
from tasks.register.approval import APPROVAL, PENDING
from tasks.register.moves import history, promote
from tasks.register.registry import get_model
from tasks.workspace import Workspace
from tests.flows.asking import ask, client
from tests.flows.homes import ROOT, Home
from tests.register.conftest import Fill, empty_store, fill  # noqa: F401

SERVE = """
from flows.environment import settle
from flows.server import ensure_server
from tasks.workspace import Workspace
workspace = Workspace.find()
settle(workspace)
ensure_server(workspace.root)
"""
ASK = f"{SERVE}\nfrom flows.approvals import ask\nask(workspace, 'fruit')"


@pytest.fixture
def home(workspace: Workspace) -> Iterator[Home]:
    home = Home(workspace.root)
    yield home
    home.headstart("ui", "--stop", "--force")


@pytest.fixture
def fruit(workspace: Workspace, fill: Fill) -> MlflowClient:  # noqa: F811
    """Version 1 is champion, 2 and 3 wait."""
    workspace.mlruns.mkdir()
    made = MlflowClient(workspace.tracking_uri)
    fill(made, "fruit", 3)
    promote(made, "fruit", 1, "", "ada")
    for number in ("2", "3"):
        made.set_model_version_tag("fruit", number, APPROVAL, PENDING)
    return made


def do(home: Home, code: str) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=home.environment, check=True)


def asked_runs(home: Home) -> dict[str, dict[str, Any]]:
    return {run["name"]: run for run in ask(home.root, "/flow_runs/filter", {})}


@pytest.mark.slow
def test_an_answer_on_prefects_page_outlives_servers_and_is_done_by_the_next_command(
    home: Home, fruit: MlflowClient, workspace: Workspace
) -> None:
    do(home, ASK)
    for file in (home.root / "mlruns/approvals").glob("*.json"):
        file.unlink()  # as if it was killed before
    do(home, ASK)
    runs = asked_runs(home)
    assert sorted(runs) == ["approve fruit version 2", "approve fruit version 3"]
    assert {run["state_name"] for run in runs.values()} == {"Suspended"}
    assert home.headstart("ui", "--stop").stdout == "stopped\n"
    do(home, SERVE)
    with client(home.root) as asking:
        resume = f"/flow_runs/{runs['approve fruit version 3']['id']}/resume"
        refused = asking.post(resume, json={"run_input": {"decision": "approve"}}).json()
        assert refused["status"] == "REJECT" and "'reason' is a required property" in refused["details"]["reason"]
        answer = {"decision": "approve", "reason": "ripe", "who": "bob"}
        assert asking.post(resume, json={"run_input": answer}).json()["status"] == "ACCEPT"
    listed = home.headstart("models", "--pending")
    assert listed.returncode == 0
    assert (
        listed.stderr.startswith("fruit version 3: approved by bob (Prefect's page) on ") and "(ripe)" in listed.stderr
    )
    assert int(get_model(fruit, "fruit").aliases["champion"]) == 3
    assert (history(fruit, "fruit")[-1].who, history(fruit, "fruit")[-1].why) == ("bob (Prefect's page)", "ripe")
    assert " 2 " in listed.stdout and " 3 " not in listed.stdout.replace("2026", "")
    rejected = home.headstart("reject", "fruit", "2", "--why", "sour")
    assert rejected.stdout.startswith("fruit: version 2 was rejected by ") and "(sour)" in rejected.stdout
    ended = {name: (run["state_name"], run["state"]["message"][:11]) for name, run in asked_runs(home).items()}
    assert ended == {
        "approve fruit version 2": ("Completed", "rejected by"),
        "approve fruit version 3": ("Completed", "approved by"),
    }
    assert approvals.asked(workspace) == []
    again = home.headstart("approve", "fruit", "2", "--why", "sweet after all")
    assert again.returncode == 2 and "does not wait any more: it was rejected by" in again.stderr


def test_where_prefects_server_is_gone_what_was_asked_waits(workspace: Workspace) -> None:
    here = Asked("fruit", 2, "0", "http://127.0.0.1:9/api")
    (workspace.root / "mlruns").mkdir()
    approvals._write(here, workspace)
    approvals.apply_answers(workspace)
    assert approvals.asked(workspace) == [here] and approvals.answered(workspace) == []


def test_a_file_that_says_nothing_is_no_question(workspace: Workspace) -> None:
    folder = workspace.root / "mlruns" / "approvals"
    folder.mkdir(parents=True)
    (folder / "a.json").write_text("{")
    (folder / "b.json").write_text(json.dumps({"name": "fruit"}))
    assert approvals.asked(workspace) == []


def test_listening_for_answers_imports_neither_prefect_nor_mlflow(tmp_path: Path) -> None:
    code = "import sys, flows.approvals; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"prefect", "mlflow", "torch", "pandas"} & set(loaded.split())
