"""What a person answers on Prefect's page, and who does it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient
from prefect.utilities.schema_tools import validate

from flows import cli
from flows.commands import approve
from flows.runs import flow_runs
from flows.schedules import approval_runs, approvals
from flows.schedules.approval_runs import Answer
from flows.schedules.approvals import Asked
from flows.servers import server
from tasks.errors import UnchangeableError
from tasks.register.approval import APPROVAL, PENDING
from tasks.register.moves import LONGEST_WHY, history, promote
from tasks.register.registry import get_model
from tasks.register.store import open_registry
from tasks.workspace import Workspace
from tests.flows.asking import ask, client, post
from tests.flows.homes import ROOT, Home
from tests.register.conftest import Fill, empty_store, fill  # noqa: F401

SERVE = """
from flows.servers.environment import settle
from flows.servers.server import ensure_server
from tasks.workspace import Workspace
workspace = Workspace.find()
settle(workspace)
ensure_server(workspace.root)
"""
ASK = f"{SERVE}\nfrom flows.schedules.approvals import ask\nask(workspace, 'fruit')"


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
        refused = post(asking, resume, {"run_input": {"decision": "approve"}}).json()
        assert refused["status"] == "REJECT" and "'reason' is a required property" in refused["details"]["reason"]
        answer = {"decision": "approve", "reason": "ripe", "who": "bob"}
        taken = post(asking, resume, {"run_input": answer})
        assert taken.json().get("status") == "ACCEPT", (taken.status_code, taken.text)
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


def test_the_form_takes_no_reason_that_is_too_long_to_be_kept() -> None:
    for signs, right in ((LONGEST_WHY, True), (LONGEST_WHY + 1, False)):
        given = {"decision": "reject", "reason": "x" * signs}
        assert (not validate(given, Answer.model_json_schema())) is right
        assert Answer(**given).reason == given["reason"]  # of a form of earlier versions: refused where it is applied


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
    code = "import sys, flows.schedules.approvals; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"prefect", "mlflow", "torch", "pandas"} & set(loaded.split())


PREFECT = "http://127.0.0.1:9/api"


def says(monkeypatch: pytest.MonkeyPatch, status: int, state: str) -> None:
    """Have Prefect's server answer so about every flow run."""
    monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(status, json={"state_type": state}))


def test_a_decision_stands_where_prefect_fails_and_the_page_hears_of_it_later(
    fruit: MlflowClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (2, 3):
        approvals._write(Asked("fruit", number, str(number), PREFECT), workspace)
    for module in (approve, cli):
        monkeypatch.setattr(module, "open_workspace", lambda **_: workspace)
    monkeypatch.setattr(approvals, "access_to", lambda *_: (PREFECT, None))
    errors: list[Exception] = [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), PermissionError(13, "no")]

    def fails(*_: object) -> bool:
        errors.append(errors.pop(0))
        raise errors[-1]

    monkeypatch.setattr(approvals, "_settle", fails)
    commands = [
        (2, lambda: approve.approve("fruit", "2", "ripe")),
        (3, lambda: approve.reject("fruit", "3", "sour")),
        (None, lambda: cli.rollback("fruit", "sour, too", None)),
        (2, lambda: cli.promote("fruit", "2", "after all")),
    ]
    for number, command in commands:
        command()
        told = capsys.readouterr()
        assert told.out.startswith("fruit: ") and len(told.out.splitlines()) == 1
        later = f"Prefect's page still asks about fruit version {number}: it hears of this with the next command"
        assert told.err.startswith(later) if number else told.err == ""
        assert len(told.err.splitlines()) == bool(number)
    assert [move.version for move in history(fruit, "fruit")] == [1, 2, 1, 2]
    says(monkeypatch, 401, "PAUSED")
    assert approvals.answered(workspace) == []
    says(monkeypatch, 200, "PAUSED")
    monkeypatch.setattr(approvals, "_settle", lambda *_: True)
    assert approvals.apply_answers(workspace) == [] and approvals.asked(workspace) == []


def test_one_question_that_cannot_be_closed_keeps_no_other_from_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (2, 3):
        approvals._write(Asked("fruit", number, str(number), PREFECT), workspace)
    monkeypatch.setattr(approvals, "access_to", lambda *_: (PREFECT, None))

    def settle(each: Asked, *more: Any) -> bool:
        if each.version == 2:
            more[-1].append("version 2: approved")
            raise ValueError("refused")
        return True

    monkeypatch.setattr(approvals, "_settle", settle)
    assert approvals.settle(workspace) == ["version 2: approved"]
    assert [each.version for each in approvals.asked(workspace)] == [2]


@pytest.mark.parametrize(("api", "own"), [("https://prefect.team.example/api", None), (PREFECT, False)])
def test_the_workspaces_own_server_is_not_asked_about_what_another_records(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, api: str, own: bool | None
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(server, "server_status", lambda _: server.Server(1, "http://127.0.0.1:4200/api", 0.0))
    monkeypatch.setattr(server, "answers", lambda _: True)
    says(monkeypatch, 404, "")
    theirs = Asked("fruit", 2, "0", api, own=own)
    ours = [Asked("fruit", 3, "1", PREFECT), Asked("fruit", 4, "2", "http://localhost:9/api", own=True)]
    for each in (theirs, *ours):
        approvals._write(each, workspace)
    assert approvals.answered(workspace) == ours
    monkeypatch.setenv("PREFECT_API_URL", api)
    assert approvals.answered(workspace)[0] == theirs


def test_an_answer_waits_for_somebody_who_may_do_it(
    fruit: MlflowClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked("fruit", 2, "6a4b8a26-6d3c-4f6f-8f0c-0d4b7b2a4c11", PREFECT)
    approvals._write(asked, workspace)
    monkeypatch.setattr(flow_runs, "client_of", lambda *_: nullcontext())
    monkeypatch.setattr(approvals, "access_to", lambda *_: ("", None))
    monkeypatch.setattr(approval_runs, "read_answer", lambda *_: Answer(decision="approve", reason="ripe"))
    closed: list[Any] = []
    monkeypatch.setattr(approval_runs, "close", lambda client, flow_run, state: closed.append(state))

    def refuse(*_: Any, **__: Any) -> None:
        raise UnchangeableError("the registry takes no changes")

    with monkeypatch.context() as denied:
        denied.setattr("tasks.register.turns.draw", refuse)
        assert approvals.settle(workspace) == [] and not closed
    assert approvals.asked(workspace) == [asked], "the question stays"
    [told] = approvals.settle(workspace)
    assert "fruit version 2" in told and len(closed) == 1 and approvals.asked(workspace) == []
    assert int(get_model(fruit, "fruit").aliases["champion"]) == 2


def test_an_answer_about_a_deleted_version_decides_nothing_of_one_that_has_its_number(
    fruit: MlflowClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Asked("fruit", 2, "6a4b8a26-6d3c-4f6f-8f0c-0d4b7b2a4c11", PREFECT, made=1)
    approvals._write(before, workspace)
    suspended: list[int] = []
    monkeypatch.setattr(flow_runs, "client_of", lambda *_: nullcontext())
    monkeypatch.setattr(
        approval_runs, "suspend", lambda client, name, number, *_: suspended.append(number) or f"new {number}"
    )
    for _ in range(2):
        approvals.ask(workspace, "fruit")
    assert suspended == [2, 3]
    made = {number: fruit.get_model_version("fruit", str(number)).creation_timestamp for number in (2, 3)}
    new = {each.version: each.made for each in approvals.asked(workspace) if each != before}
    assert new == made and abs(made[2] / 1000 - time.time()) < 3600
    closed: list[Any] = []
    monkeypatch.setattr(approval_runs, "read_answer", lambda *_: Answer(decision="approve", reason="ripe"))
    monkeypatch.setattr(approval_runs, "close", lambda client, flow_run, state: closed.append(state))
    told: list[str] = []
    assert approvals._compared(before, open_registry(workspace), None, told)  # type: ignore[arg-type]
    assert [state.name for state in closed] == ["Cancelled"] and int(get_model(fruit, "fruit").aliases["champion"]) == 1
    assert len(told) == 1 and "decides nothing: version 2 of 'fruit' was deleted, and another has its number" in told[0]
