"""Which runs are at work, and what becomes of those that died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock
from uuid import uuid4

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.entities import RunTag
from prefect.states import AwaitingRetry, Completed, Pending, Running, Scheduled
from prefect.states import State as RunState

from flows.runs import flow_runs, leases
from flows.runs.leases import ALIVE, ENDED, OWNER, STALE, Lease, close_dead, close_silent, held, live, write
from flows.servers import server
from flows.servers.server import Server, server_status
from tasks.owner import Owner
from tasks.register.store import connect
from tasks.workspace import Workspace
from tests.flows.asking import ask
from tests.flows.hearing import heard
from tests.flows.homes import DIGITS, ROOT, Home, eventually, is_gone

FLOW_RUN = str(uuid4())
START = "import sys, pathlib, flows.servers.server as server; server.ensure_server(pathlib.Path(sys.argv[1]))"


@pytest.fixture
def gone() -> Owner:
    """A process that has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = Owner.of(process.pid)
    return owner


def put(workspace: Workspace, owner: Owner, name: str, silent: float = 0, **more: str) -> Lease:
    lease = Lease(owner, name, "http://127.0.0.1:9/api", **more)
    write(lease, workspace)
    then = time.time() - silent
    os.utime(leases.folder_of(workspace) / f"{name}.json", (then, then))
    return lease


def test_a_lease_is_there_while_the_work_lasts_and_keeps_whose_schedule_it_is(workspace: Workspace) -> None:
    put(workspace, Owner.here(), "one", schedule="digits")
    with pytest.raises(ZeroDivisionError), held(workspace, "one", "http://here/api") as tell_run:
        tell_run("some run")
        [lease] = live(workspace)
        assert (lease.run, lease.schedule, lease.owner) == ("some run", "digits", Owner.here())
        1 / 0  # noqa: B018
    assert leases.leases(workspace) == []


def test_a_lease_shows_signs_of_life(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.05)
    with held(workspace, "one", "http://here/api"):
        file = leases.folder_of(workspace) / "one.json"
        os.utime(file, (0, 0))
        assert eventually(lambda: file.stat().st_mtime > 0, 5)


def test_a_process_of_this_machine_is_believed_however_silent_and_one_that_ended_is_not(
    workspace: Workspace, gone: Owner
) -> None:
    here = put(workspace, Owner.here(), "here", silent=10 * STALE)
    put(workspace, gone, "gone")
    put(workspace, replace(Owner.here(), began=1.0), "number that is in use again")
    assert live(workspace) == [here]


def test_a_process_that_ended_unheard_by_its_parent_is_no_more(workspace: Workspace) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = Owner.of(process.pid)
    process.kill()
    assert eventually(lambda: owner.is_dead, 5)
    process.communicate()


def test_of_another_machine_counts_how_long_it_was_silent(workspace: Workspace) -> None:
    elsewhere = replace(Owner.here(), machine="another", pid=1)
    lively = put(workspace, elsewhere, "lively", silent=STALE / 2)
    put(workspace, elsewhere, "silent", silent=2 * STALE)
    assert live(workspace) == [lively]


def begin(client: MlflowClient, **tags: str) -> str:
    found = client.get_experiment_by_name("birds")
    experiment = found.experiment_id if found else client.create_experiment("birds")
    return client.create_run(experiment, tags={f"headstart.{key}": value for key, value in tags.items()}).info.run_id


def test_a_run_that_died_is_killed_in_mlflow_once_and_waits_for_prefects_server(
    workspace: Workspace, gone: Owner
) -> None:
    workspace.mlruns.mkdir()
    client = connect(workspace)
    died, lives = begin(client), begin(client)
    put(workspace, gone, "one", run=died)
    put(workspace, Owner.here(), "two", run=lives)
    assert close_dead(workspace) == []
    assert [client.get_run(each).info.status for each in (died, lives)] == ["KILLED", "RUNNING"]
    assert f"process {gone.pid} on {gone.host} is no more" in client.get_run(died).data.tags[ENDED]
    left = {lease.flow_run: lease.run for lease in leases.leases(workspace)}
    assert left == {"one": None, "two": lives}


@pytest.mark.parametrize(
    ("says", "done", "becomes"),
    [
        (AwaitingRetry(), None, None), (Scheduled(), None, None), (Completed(), None, None),
        (Running(), None, "Crashed"), (Pending(), None, "Crashed"),
        (Running(), "version 1", "Completed"), (AwaitingRetry(), "version 1", "Completed"),
    ],
)  # fmt: skip
def test_a_run_that_waits_for_its_turn_or_another_try_is_not_closed_for_its_dead_process(
    workspace: Workspace, gone: Owner, monkeypatch: pytest.MonkeyPatch,
    says: RunState, done: str | None, becomes: str | None,
) -> None:  # fmt: skip
    put(workspace, gone, FLOW_RUN, done=done)  # type: ignore[arg-type]
    said = hear(monkeypatch, lambda: says)
    [closed] = close_dead(workspace)
    assert closed.flow_run == FLOW_RUN and leases.leases(workspace) == []
    assert said() == becomes


def test_a_run_that_is_tried_again_while_its_dead_process_is_looked_at_is_left_to_its_new_one(
    workspace: Workspace, gone: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(workspace, gone, FLOW_RUN)

    def read() -> RunState:
        put(workspace, Owner.here(), FLOW_RUN, schedule="digits")
        return Running()

    said = hear(monkeypatch, read)
    close_dead(workspace)
    assert said() is None and [lease.schedule for lease in live(workspace)] == ["digits"]


def hear(monkeypatch: pytest.MonkeyPatch, read: Callable[[], RunState]) -> Callable[[], str | None]:
    """Prefect's server, which says this of a flow run; returns what tells the state that it was put into."""
    client = MagicMock()
    client.read_flow_run = lambda _: SimpleNamespace(state=read())
    client.read_task_runs.return_value = []
    monkeypatch.setattr(leases, "access_to", lambda *_: ("http://127.0.0.1:9/api", None))
    monkeypatch.setattr(flow_runs, "client_of", lambda *_: nullcontext(client))
    return lambda: client.set_flow_run_state.call_args.args[1].name if client.set_flow_run_state.called else None


@pytest.mark.parametrize(
    ("api", "own", "reached"),
    [
        ("https://prefect.team.example/api", None, False),
        ("http://127.0.0.1:4242/api", False, False),
        ("http://127.0.0.1:4242/api", True, True),
        ("http://[::1]:4242/api", None, True),
        ("", None, True),
    ],
)
def test_what_another_server_records_is_not_closed_on_the_workspaces_own(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, api: str, own: bool | None, reached: bool
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(server, "server_status", lambda _: Server(1, "http://127.0.0.1:4200/api", 0.0))
    found = leases.access_to(api, own, workspace)
    assert (found[0] if found else None) == ("http://127.0.0.1:4200/api" if reached else None)


@pytest.mark.parametrize("chosen", [True, False])
def test_a_lease_says_whether_the_server_is_the_workspaces_own(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, chosen: bool
) -> None:
    monkeypatch.setattr(server, "server_status", lambda _: None)
    monkeypatch.setenv("HEADSTART_SERVER_URL", "http://127.0.0.1:9/api" if chosen else "")
    with held(workspace, "one", "http://127.0.0.1:9/api"):
        assert [lease.own for lease in live(workspace)] == [chosen]


def test_in_a_shared_store_only_an_hour_of_silence_closes_a_run_of_another_machine(
    workspace: Workspace, gone: Owner
) -> None:
    workspace.mlruns.mkdir()
    client = connect(workspace)

    def of(owner: Owner, minutes: float) -> str:
        return begin(client, owner=json.dumps(vars(owner)), alive=f"{time.time() - 60 * minutes:.0f}")

    elsewhere = replace(Owner.here(), machine="another", who="someone else")
    runs = [of(elsewhere, 5), of(elsewhere, 70), of(gone, 1), of(Owner.here(), 70), begin(client)]
    close_silent(client)
    statuses = [client.get_run(run).info.status for run in runs]
    assert statuses == ["RUNNING", "KILLED", "KILLED", "RUNNING", "RUNNING"]


def test_tags_of_a_run_in_a_shared_store_that_somebody_edited_end_no_other_run(
    workspace: Workspace, gone: Owner
) -> None:
    workspace.mlruns.mkdir()
    client = connect(workspace)
    here, away = (json.dumps(vars(owner)) for owner in (Owner.here(), replace(gone, machine="another")))
    edited = [("no JSON", "0"), ("[]", "0"), ("{}", "0"), (here.replace(str(os.getpid()), '"x"'), "0"), (away, "later")]
    runs = [begin(client, owner=owner, alive=alive) for owner, alive in edited] + [begin(client, alive="0")]
    died = begin(client, owner=json.dumps(vars(gone)), alive="0")
    close_silent(client)
    assert {client.get_run(run).info.status for run in runs} == {"RUNNING"}
    assert client.get_run(died).info.status == "KILLED"


def test_a_run_in_a_shared_store_says_whose_it_is(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    team = workspace.root / "team.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{team}")
    client = connect(workspace)
    run = begin(client)
    with held(workspace, "one", "http://here/api") as tell_run:
        tell_run(run)
        tags = client.get_run(run).data.tags
    assert Owner(**json.loads(tags[OWNER])) == Owner.here() and time.time() - float(tags[ALIVE]) < 60
    client.log_batch(run, tags=[RunTag(ALIVE, "0")])
    close_silent(client)
    assert client.get_run(run).info.status == "RUNNING"  # its process lives


@pytest.mark.slow
def test_a_killed_run_is_closed_in_both_by_the_next_command(tmp_path: Path) -> None:
    home = Home(tmp_path)
    workspace = Workspace(tmp_path)
    try:
        process = home.start("run", DIGITS, "-s", "train={method: mlp, epochs: 100000}")
        assert eventually(lambda: any(lease.run for lease in leases.leases(workspace)), 180)
        [lease] = leases.leases(workspace)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert [run["state_type"] for run in home.flow_runs()] == ["RUNNING"]
        listed = home.headstart("models")
        assert listed.returncode == 0 and listed.stderr == ""
        run = home.client.get_run(lease.run)
        assert run.info.status == "KILLED" and "no more" in run.data.tags[ENDED]
        [flow_run] = home.flow_runs()
        assert flow_run["state_type"] == "CRASHED" and f"process {process.pid}" in flow_run["state"]["message"]
        tasks = ask(tmp_path, "/task_runs/filter", {"flow_runs": {"id": {"any_": [lease.flow_run]}}})
        assert not {task["state_type"] for task in tasks} & {"RUNNING", "PENDING"}
        assert leases.leases(workspace) == []
    finally:
        home.headstart("ui", "--stop")


@pytest.mark.slow
@pytest.mark.parametrize("then", ["nobody", "another's server"])
def test_a_run_whose_prefect_server_is_killed_ends_well_and_prefect_hears_of_it_later(
    tmp_path: Path, then: str
) -> None:
    home = Home(tmp_path)
    workspace = Workspace(tmp_path)
    port = ExitStack()
    home.serve_at_a_port_of_its_own()
    try:
        process = home.start("run", DIGITS, "--quiet")
        assert eventually(lambda: any(lease.run for lease in leases.leases(workspace)), 180)
        server = server_status(tmp_path)
        assert server is not None
        os.kill(server.pid, signal.SIGKILL)
        assert eventually(lambda: is_gone(server.pid))
        if then != "nobody":
            port.enter_context(heard(httpx.URL(server.url).port, status=401))
        assert eventually(lambda: registered(home), 300)
        began = time.monotonic()
        out, err = process.communicate(timeout=120)
        assert time.monotonic() - began < 60 and process.returncode == 0, err  # it was minutes
        assert "digits version 1 (champion)" in out and "Traceback" not in err
        assert len(err.strip().splitlines()) == 1 and "went away: it hears of this run with the next command" in err
        [run] = home.client.search_runs([home.client.get_experiment_by_name("digits").experiment_id])
        assert run.info.status == "FINISHED"
        subprocess.run([sys.executable, "-c", START, tmp_path], cwd=ROOT, env=home.environment, check=True)
        assert home.headstart("models").stderr == ""
        [flow_run] = home.flow_runs()
        assert flow_run["state_type"] == "COMPLETED" and "version 1" in flow_run["state"]["message"]
        assert leases.leases(workspace) == []
    finally:
        port.close()
        home.headstart("ui", "--stop")


def registered(home: Home) -> bool:
    with suppress(Exception):  # the model is not there yet
        return bool(home.client.get_model_version_by_alias("digits", "champion"))
    return False
