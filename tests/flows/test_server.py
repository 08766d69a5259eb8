"""The local Prefect server: its environment, its life cycle, and what a short-lived process leaves in it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from flows.servers import server as server_module
from flows.servers.environment import prepare_environment
from flows.servers.server import OPEN_TO_ALL, ensure_server, server_status, stop_server
from tasks.errors import ConfigurationError, ServerError
from tests.flows.asking import ask, client
from tests.flows.homes import eventually, is_gone

ROOT = Path(__file__).parents[2]

START = "import sys, pathlib, flows.servers.server as server; print(server.ensure_server(pathlib.Path(sys.argv[1])))"

# The last argument chooses whether the interpreter may still deliver something on its way out.
RUN = """
import os, sys
from pathlib import Path
from flows.servers.server import deliver_events, ensure_server

ensure_server(Path(sys.argv[1]))
from prefect import flow, get_run_logger, task

class Result:
    pass

@task(task_run_name="{name}")
def step(name: str, before: list[Result]) -> Result:
    get_run_logger().info("step %s", name)
    return Result()

@flow(name=sys.argv[2])
def diamond() -> None:
    a = step("a", [])
    b, c = step("b", [a]), step("c", [a])
    d = step("d", [b, c])
    step("f", [step("e", [d])])

for _ in range(2):
    diamond()
    assert deliver_events()
if sys.argv[3] == "abruptly":
    os._exit(0)
"""


@contextmanager
def untouched_environment() -> Iterator[None]:
    before = dict(os.environ)
    for name in before:
        if name.startswith(("PREFECT_", "HEADSTART_")) or name == "DO_NOT_TRACK":
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    with untouched_environment():
        yield


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "my $HOME? 100%41 #1 workspace"
    path.mkdir()
    yield path
    stop_server(path)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("served workspace")
    try:
        with untouched_environment():
            ensure_server(path)
        yield path
    finally:
        stop_server(path)


def python(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def servers_of(workspace: Path) -> list[int]:
    home, found = str(workspace.resolve() / "mlruns" / "prefect"), []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "flows.servers.guarded" in process.cmdline() and process.environ().get("PREFECT_HOME") == home:
                found.append(process.pid)
    return found


def test_a_server_that_has_no_command_line_yet_is_waited_for(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a busy machine, whoever starts a process may look at it before it has become another program.
    prepare_environment(workspace)
    found, begun = psutil.Process.cmdline, time.monotonic() + 0.3
    monkeypatch.setattr(psutil.Process, "cmdline", lambda it: found(it) if time.monotonic() > begun else [])
    home = workspace.resolve() / "mlruns" / "prefect"
    launched = server_module._launched(home, "secret", home / "server.log")
    assert servers_of(workspace) == [launched.pid]
    assert stop_server(workspace)


def test_import_does_not_import_prefect() -> None:
    code = "import sys, flows.servers.server; print(flows.servers.server.deliver_events(), 'prefect' in sys.modules)"
    assert python(code).communicate() == ("True False\n", "")


def test_environment_keeps_prefect_private_and_in_the_workspace(workspace: Path) -> None:
    os.environ["PREFECT_PROFILE"] = "elsewhere"
    os.environ["PREFECT_HOME"] = "/elsewhere"
    prepare_environment(workspace)
    assert os.environ["PREFECT_HOME"] == str(workspace.resolve() / "mlruns" / "prefect")
    assert os.environ["DO_NOT_TRACK"] == "1"
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert "PREFECT_PROFILE" not in os.environ


def test_environment_leaves_what_the_user_exported(workspace: Path) -> None:
    chosen = {"PREFECT_LOGGING_CONFIG_PATH": "/my/logging.yml", "PREFECT_SERVER_ANALYTICS_ENABLED": "true"}
    os.environ.update(chosen)
    prepare_environment(workspace)
    assert {name: os.environ[name] for name in chosen} == chosen


def test_environment_of_a_parent_is_replaced(workspace: Path, tmp_path: Path) -> None:
    prepare_environment(tmp_path / "parent")
    prepare_environment(workspace)
    assert Path(os.environ["PREFECT_LOGGING_CONFIG_PATH"]).is_relative_to(workspace.resolve())


def test_exported_address_without_a_server_is_an_error(workspace: Path) -> None:
    os.environ["PREFECT_API_URL"] = "http://ben:secret@127.0.0.1:9/api"
    with pytest.raises(ServerError, match=r"http://ben:\*\*\*@127.0.0.1:9/api.*PREFECT_API_URL"):
        ensure_server(workspace)
    assert not servers_of(workspace)


def test_exported_address_that_is_none_is_an_error(workspace: Path) -> None:
    os.environ["PREFECT_API_URL"] = " localhost:4200/api"
    with pytest.raises(
        ConfigurationError, match=r"is 'localhost:4200/api', which is no address .* http://HOST:PORT/api"
    ):
        ensure_server(workspace)
    os.environ["PREFECT_API_URL"] = " http://127.0.0.1:9/api"
    with pytest.raises(ServerError, match="answers at http://127"):
        ensure_server(workspace)


@pytest.mark.slow
def test_exported_address_of_a_server_is_used(served: Path, workspace: Path) -> None:
    server = server_status(served)
    assert server is not None
    os.environ["PREFECT_API_URL"] = server.url
    assert ensure_server(workspace) == server.url
    assert server_status(workspace) is None


def test_server_is_found_again(served: Path) -> None:
    server = server_status(served)
    assert server is not None
    assert ensure_server(served) == os.environ["PREFECT_API_URL"] == server.url
    assert servers_of(served) == [server.pid]
    assert httpx.get(server.dashboard, follow_redirects=True).is_success
    with client(served) as asking:
        settings = asking.get("/admin/settings").json()
    assert settings["server"]["analytics_enabled"] is False


@pytest.mark.slow
def test_concurrent_callers_share_one_server_that_outlives_them(workspace: Path) -> None:
    callers = [python(START, workspace) for _ in range(2)]
    results = [caller.communicate() for caller in callers]
    server = server_status(workspace)
    assert server is not None
    assert results == [(f"{server.url}\n", "")] * 2
    assert servers_of(workspace) == [server.pid]
    assert stop_server(workspace)
    assert not servers_of(workspace)
    assert not (workspace / "mlruns/prefect/server.json").exists()
    assert not stop_server(workspace)


@pytest.mark.slow
def test_stale_record_and_taken_port_are_survived(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_environment(workspace)
    record = workspace / "mlruns/prefect/server.json"
    # A process id that is in use again, by a program that is no server.
    record.write_text(json.dumps({"pid": os.getpid(), "url": "http://127.0.0.1:9/api", "started": 0.0}))
    assert server_status(workspace) is None
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        monkeypatch.setattr(server_module, "PREFERRED_PORT", taken)
        url = ensure_server(workspace)
    assert httpx.URL(url).port != taken
    assert [json.loads(record.read_text())["pid"]] == servers_of(workspace)
    assert stop_server(workspace)
    assert ensure_server(workspace) == url  # runs and open pages know it by its port
    assert stop_server(workspace)
    assert "PREFECT_API_URL" not in os.environ


@pytest.mark.slow
def test_server_that_ends_early_is_an_error_that_says_why_and_names_its_log(workspace: Path) -> None:
    os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = "sqlite+aiosqlite:////nowhere/at/all.db"
    with pytest.raises(ServerError, match=r"server\.log") as told:
        ensure_server(workspace)
    assert not servers_of(workspace)
    assert "unable to open database file" in str(told.value) and len(str(told.value).splitlines()) == 1
    assert "PREFECT_API_URL" not in os.environ


def test_the_secret_stands_on_no_command_line_and_its_own_address_exported_is_ours(served: Path) -> None:
    server = server_status(served)
    assert server is not None
    secret = (served / "mlruns/prefect/secret").read_text()
    assert not [each for each in psutil.process_iter(["cmdline"]) if secret in " ".join(each.info["cmdline"] or ())]
    os.environ["PREFECT_API_URL"] = server.url.replace("127.0.0.1", "localhost")
    assert ensure_server(served) == server.url
    assert os.environ["PREFECT_API_AUTH_STRING"] == f"headstart:{secret}"


@pytest.mark.slow
def test_server_that_hangs_is_replaced_soon(workspace: Path) -> None:
    ensure_server(workspace)
    [hanging] = servers_of(workspace)
    psutil.Process(hanging).suspend()
    # As if it were up for an hour.
    record = workspace / "mlruns/prefect/server.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"started": time.time() - 3600}))
    began = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "_launched", lambda *_: pytest.fail(f"{time.monotonic() - began:.0f} s"))
        with pytest.raises(pytest.fail.Exception) as told:
            ensure_server(workspace)
    assert int(str(told.value).split()[0]) < 30
    assert is_gone(hanging)


@pytest.mark.slow
def test_server_of_an_earlier_version_or_of_another_secret_is_replaced(workspace: Path) -> None:
    prepare_environment(workspace)
    home = workspace / "mlruns/prefect"
    started = [subprocess.Popen([sys.executable, *OPEN_TO_ALL], cwd=home, stdout=subprocess.DEVNULL)]
    assert eventually(lambda: psutil.Process(started[0].pid).cmdline()[1:] == OPEN_TO_ALL)
    ensure_server(workspace)
    assert started[0].wait(1) is not None
    [first] = servers_of(workspace)
    (home / "secret").unlink()
    ensure_server(workspace)
    assert servers_of(workspace) != [first] and len(servers_of(workspace)) == 1


def test_a_server_that_was_started_from_its_module_of_before_is_known(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").touch()
    (tmp_path / "flows" / "guarded.py").write_text("import time\ntime.sleep(60)\n")
    home = workspace / "mlruns" / "prefect"
    home.mkdir(parents=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PREFECT_HOME": str(home)}
    started = subprocess.Popen([sys.executable, *server_module.MOVED], env=environment)
    assert eventually(lambda: server_module._serves(started.pid, home))
    assert stop_server(workspace)
    assert started.wait(5) is not None


def test_a_copy_of_the_workspace_leaves_the_server_of_the_first_alone(served: Path, workspace: Path) -> None:
    home = workspace / "mlruns" / "prefect"
    home.mkdir(parents=True)
    for name in ("server.json", "secret"):
        shutil.copy(served / "mlruns" / "prefect" / name, home)
    [before] = servers_of(served)
    assert server_status(workspace) is None and not stop_server(workspace)
    assert servers_of(served) == [before] and server_status(served)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["normally", "abruptly"])
def test_runs_reach_the_server_and_nothing_reaches_the_terminal(served: Path, ending: str) -> None:
    name = f"diamond-{ending}"
    process = python(RUN, served, name, ending)
    assert process.communicate() == ("", "")
    assert process.returncode == 0

    of_flow = {"flows": {"name": {"any_": [name]}}}
    flow_runs = ask(served, "/flow_runs/filter", of_flow)
    assert states(flow_runs) == ["COMPLETED"] * 2
    assert eventually(lambda: states(task_runs(served, of_flow)) == ["COMPLETED"] * 12)
    for flow_run in flow_runs:
        of_run = {"flow_runs": {"id": {"any_": [flow_run["id"]]}}}
        assert inputs(task_runs(served, of_run)) == {
            "a": set(),
            "b": {"a"},
            "c": {"a"},
            "d": {"b", "c"},
            "e": {"d"},
            "f": {"e"},
        }
        logs = ask(served, "/logs/filter", {"logs": {"flow_run_id": {"any_": [flow_run["id"]]}}})
        messages = [line["message"] for line in logs]
        assert {f"step {step}" for step in "abcdef"} <= set(messages)
        assert messages.count("Finished in state Completed()") == 7
        assert f"Flow run '{flow_run['name']}' - Finished" in (served / "mlruns/headstart.log").read_text()


def task_runs(workspace: Path, chosen: dict[str, Any]) -> list[dict[str, Any]]:
    return list(ask(workspace, "/task_runs/filter", chosen))


def states(runs: list[dict[str, Any]]) -> list[str]:
    return [run["state_type"] for run in runs]


def inputs(runs: list[dict[str, Any]]) -> dict[str, set[str]]:
    names = {run["id"]: run["name"] for run in runs}
    return {run["name"]: {names[each["id"]] for each in run["task_inputs"]["before"]} for run in runs}


@pytest.mark.xfail(
    tuple(map(int, version("sqlalchemy").split(".")[:2])) >= (2, 1),
    strict=True,
    raises=httpx.HTTPStatusError,
    reason="Prefect 3.8 cannot insert scheduled runs with SQLAlchemy 2.1: no bulk_dml for FlowRun.state",
)
def test_schedules_create_runs(served: Path) -> None:
    flow = ask(served, "/flows/", {"name": "scheduled"})
    schedule = {"schedule": {"interval": 60}, "active": True}
    body = {"name": "every", "flow_id": flow["id"], "schedules": [schedule]}
    deployment = ask(served, "/deployments/", body)
    ask(served, f"/deployments/{deployment['id']}/schedule", {"min_runs": 2})
    assert len(ask(served, "/flow_runs/filter", {"flows": {"name": {"any_": ["scheduled"]}}})) >= 2
