"""Schedules that nobody watches: real schedulers, servers and runs, ended and killed as machines do it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from flows.runs import leases
from flows.runs.leases import Lease
from flows.schedules import store
from flows.schedules.timetable import Timetable
from flows.servers.server import server_status
from tasks.workspace import Workspace
from tests.flows.asking import ask
from tests.flows.homes import ROOT, Home, eventually
from tests.flows.test_watching import picture

pytestmark = pytest.mark.slow

QUICK = "evaluate: {explain: 0, robustness: 0}"
LONG = "{method: mlp, epochs: 100000}"
BEGIN, RUN, END = 120, 300, 15
"""Seconds until a run is seen at work on a busy machine, until it is done, and in which a scheduler obeys."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("scheduled"))
    home.serve_at_a_port_of_its_own()
    first = home.headstart("run", write(home, "{method: linear}"), "--quiet")
    assert first.returncode == 0, first.stderr
    yield home
    home.headstart("ui", "--stop", "--force")


def write(home: Home, train: str, name: str = "digits") -> str:
    """The pipeline of this name with a method of training."""
    lines = (ROOT / "configs" / "digits.yaml").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("train:", "name:", "evaluate:"))]
    path = home.root / f"{name}.yaml"
    path.write_text("\n".join([*kept, f"name: {name}", f"train: {train}", QUICK]) + "\n")
    return str(path)


@contextmanager
def scheduler(home: Home, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A scheduler at work; what it says is read at the end from ``communicate``."""
    process = home.start("schedule", *arguments)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=60)
        for lease in leases.live(Workspace(home.root)):
            psutil.Process(lease.owner.pid).kill()
        home.headstart("schedule", "--remove", "digits")
        home.headstart("models")  # which closes what this left behind


def at_work(home: Home) -> Lease | None:
    """A run that has got to MLflow."""
    return next((lease for lease in leases.live(Workspace(home.root)) if lease.run), None)


def begun(home: Home, seconds: float = BEGIN) -> Lease:
    assert eventually(lambda: at_work(home), seconds)
    lease = at_work(home)
    assert lease is not None
    return lease


def state(home: Home, flow_run: str) -> str:
    return next(run["state_name"] for run in home.flow_runs() if run["id"] == flow_run)


def unfinished(home: Home) -> list[str]:
    return [run["state_name"] for run in home.flow_runs() if run["state_type"] not in FINAL]


FINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


def deployed(home: Home) -> list[str]:
    return [deployment["name"] for deployment in ask(home.root, "/deployments/filter", {})]


def status(home: Home, lease: Lease) -> str:
    return str(home.client.get_run(lease.run).info.status)


def is_watching(home: Home) -> bool:
    """Whether the command has become the scheduler, and knows when it is due."""
    return bool(store.state("digits", Workspace(home.root)).next)


def test_an_idle_scheduler_is_small_and_obeys_at_once(home: Home) -> None:
    with scheduler(home, write(home, LONG), "--cron", "0 3 1 1 *") as process:
        assert eventually(lambda: is_watching(home), BEGIN)
        assert psutil.Process(process.pid).memory_info().rss < 150 * 2**20
        twice = home.headstart("schedule", write(home, LONG), "--interval", "5")
        assert twice.returncode == 2 and f"on schedule in {home.root} already, by process {process.pid}" in twice.stderr
        needed = home.headstart("ui", "--stop")
        assert needed.returncode == 2 and f"the schedule of digits (process {process.pid}" in needed.stderr
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - began < END and (process.returncode, err) == (0, "")
        assert "Jan" in out and "Traceback" not in out
    assert unfinished(home) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_in_progress_is_ended_in_both_and_picked_up_by_the_next_scheduler(home: Home, number: int) -> None:
    with scheduler(home, write(home, LONG), "--interval", "10") as process:
        lease = begun(home)
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - began < END and (process.returncode, err) == (0, ""), out
        assert state(home, lease.flow_run) == "Cancelled" and unfinished(home) == []
        # A run that did not end in time was killed; MLflow hears of it from a process that outlives the scheduler.
        assert eventually(lambda: status(home, lease) == "KILLED" and not leases.leases(Workspace(home.root)), BEGIN)
        with scheduler(home) as again:
            assert begun(home).flow_run != lease.flow_run
            again.terminate()
            assert "caught up now" in again.communicate(timeout=60)[0]


def test_prefects_page_starts_a_run_with_other_values_and_cancels_it(home: Home) -> None:
    with scheduler(home, write(home, "{method: linear}"), "--cron", "0 3 1 1 *"):
        assert eventually(lambda: is_watching(home), BEGIN)
        [deployment] = ask(home.root, "/deployments/filter", {"deployments": {"name": {"like_": "digits-"}}})
        values = deployment["parameters"]["config"] | {"train": {"method": "mlp", "epochs": 100_000}}
        ask(home.root, f"/deployments/{deployment['id']}/create_flow_run", {"parameters": {"config": values}})
        lease = begun(home)
        cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        ask(home.root, f"/flow_runs/{lease.flow_run}/set_state", cancelling)
        assert eventually(lambda: state(home, lease.flow_run) == "Cancelled", END + 30)
        assert eventually(lambda: status(home, lease) == "KILLED", BEGIN)


def test_a_killed_server_comes_back_at_its_port_and_a_killed_run_is_closed_while_the_schedule_goes_on(
    home: Home,
) -> None:
    with scheduler(home, write(home, LONG), "--interval", "10") as process:
        lease = begun(home)
        server = server_status(home.root)
        assert server is not None
        os.kill(server.pid, signal.SIGKILL)
        assert eventually(lambda: (found := server_status(home.root)) and found.pid != server.pid, BEGIN)
        again = server_status(home.root)
        assert again is not None and again.url == server.url
        dealt = store.state("digits", Workspace(home.root)).dealt
        assert eventually(lambda: store.state("digits", Workspace(home.root)).dealt > dealt, BEGIN)
        assert len(unfinished(home)) == 1  # times that came meanwhile made no backlog
        os.kill(lease.owner.pid, signal.SIGKILL)
        assert eventually(lambda: status(home, lease) == "KILLED", BEGIN)
        assert state(home, lease.flow_run) == "Crashed"
        assert begun(home).flow_run != lease.flow_run
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert "the run before is not over" in out and "died of SIGKILL" in out and err == ""


@pytest.mark.long
def test_a_broken_configuration_fails_one_run_and_the_next_is_as_it_stands_then(home: Home) -> None:
    with scheduler(home, write(home, LONG), "--interval", "2") as process:
        lease = begun(home)
        broken = Path(write(home, "{method: liner}"))
        os.kill(lease.owner.pid, signal.SIGTERM)
        assert eventually(lambda: any(run["state_name"] == "Failed" for run in home.flow_runs()), BEGIN)
        write(home, "{method: linear}")
        done = len([run for run in home.flow_runs() if run["state_name"] == "Completed"])
        completed: Any = lambda: len([run for run in home.flow_runs() if run["state_name"] == "Completed"]) > done  # noqa: E731
        assert eventually(completed, RUN)
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert eventually(lambda: status(home, lease) == "KILLED", BEGIN) and broken.exists()
    failures = set(line.split(" ", 1)[1] for line in err.splitlines())
    assert len(failures) == 1 and "did you mean" in failures.pop()


@pytest.mark.long
def test_a_run_that_takes_too_long_is_ended_and_tried_again_later_each_time(home: Home) -> None:
    policies = ["--timeout", "45", "--retries", "1", "--backoff", "1"]
    with scheduler(home, write(home, LONG), "--interval", "5", *policies) as process:
        first = begun(home)
        assert eventually(lambda: status(home, first) == "KILLED", BEGIN)
        second = begun(home)
        assert second.flow_run == first.flow_run and second.run != first.run
        assert eventually(lambda: state(home, first.flow_run) == "TimedOut", BEGIN)
        process.terminate()
        out, _ = process.communicate(timeout=60)
    assert out.count("it took longer than its limit") >= 2 and "tried again in 1 s (1 of 1)" in out


def missed(home: Home, **policies: Any) -> None:
    """A schedule that is due once when its scheduler starts, and then for an hour no more."""
    now, workspace = time.time(), Workspace(home.root)
    hourly = Timetable("interval", "3600", "UTC", now - 60)
    store.keep(store.Schedule("digits", write(home, LONG), hourly, **policies), workspace)
    store.save("digits", store.State(now - 120), workspace)


@pytest.mark.long
def test_a_run_that_is_killed_is_tried_again_when_its_time_has_come_and_no_more_often_than_asked_for(
    home: Home,
) -> None:
    wait = 45  # longer than the dead process takes to be closed, and another command
    missed(home, retries=1, backoff=float(wait))
    with scheduler(home) as process:
        first = begun(home)
        os.kill(first.owner.pid, signal.SIGKILL)
        killed = time.monotonic()
        assert eventually(lambda: status(home, first) == "KILLED" and not leases.leases(Workspace(home.root)), wait)
        assert state(home, first.flow_run) == "AwaitingRetry"
        home.headstart("models")
        second = begun(home)
        assert second.flow_run == first.flow_run and second.run != first.run and time.monotonic() - killed > wait
        os.kill(second.owner.pid, signal.SIGKILL)
        assert eventually(lambda: status(home, second) == "KILLED" and not leases.leases(Workspace(home.root)), BEGIN)
        time.sleep(10)  # more than one look for what waits
        assert state(home, first.flow_run) == "Crashed" and unfinished(home) == []
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert out.count("begins") == 2 and f"tried again in {wait} s (1 of 1)" in out and err == ""


def test_a_run_that_ends_before_it_is_at_work_is_not_tried_for_ever(home: Home) -> None:
    missed(home, retries=1, backoff=1.0, timeout=1.0)
    with scheduler(home) as process:
        assert eventually(lambda: is_watching(home) and unfinished(home), BEGIN)
        assert eventually(lambda: not unfinished(home), BEGIN)
        time.sleep(10)  # more than one look for what waits
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert out.count("begins") == 2 and out.count("timedout") == 2 and "(1 of 1)" in out and err == ""


@pytest.mark.long
def test_a_run_whose_scheduler_died_before_it_was_taken_is_begun_by_the_next(home: Home) -> None:
    missed(home)
    with scheduler(home) as process:
        assert eventually(lambda: leases.live(Workspace(home.root)), BEGIN)
        [lease] = leases.live(Workspace(home.root))
        for pid in (process.pid, lease.owner.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        scheduled = {"force": True, "state": {"type": "SCHEDULED", "name": "Scheduled"}}
        ask(home.root, f"/flow_runs/{lease.flow_run}/set_state", scheduled)  # as a kill in between leaves it
        home.headstart("models")
        assert state(home, lease.flow_run) == "Scheduled"
        with scheduler(home):
            assert begun(home).flow_run == lease.flow_run


@pytest.mark.long
def test_the_next_run_takes_the_place_of_the_one_before_where_that_was_asked_for(home: Home) -> None:
    with scheduler(home, write(home, LONG), "--interval", "60", "--overlap", "cancel"):
        first = begun(home)
        assert eventually(lambda: state(home, first.flow_run) == "Cancelled", BEGIN)
        assert eventually(lambda: status(home, first) == "KILLED", BEGIN)
        assert eventually(lambda: set(unfinished(home)) & {"Pending", "Running"}, BEGIN)


def test_a_scheduler_that_is_killed_leaves_its_run_to_the_next_which_begins_no_other(home: Home) -> None:
    with scheduler(home, write(home, LONG), "--interval", "5") as process:
        lease = begun(home)
        process.kill()
        process.wait()  # not for what it wrote: its run has that open, too
        with scheduler(home) as again:
            assert eventually(lambda: store.scheduler_of("digits", Workspace(home.root)), BEGIN)
            time.sleep(6)  # more than one time comes
            assert len(unfinished(home)) == 1 and at_work(home) == lease
            again.terminate()
            again.communicate(timeout=60)
        assert state(home, lease.flow_run) == "Cancelled"
        assert eventually(lambda: status(home, lease) == "KILLED", BEGIN)


def runs(home: Home, *names: str) -> list[dict[str, Any]]:
    """Flow runs of deployments in these states, of this name."""
    return [run for run in home.flow_runs() if run["state_name"] in names]


def caught_up(home: Home, policy: str) -> int:
    """How many runs come of five minutes that nothing watched; each fails at once, for its configuration is broken."""
    with scheduler(home, write(home, LONG), "--interval", "60", "--missed", policy) as process:
        assert eventually(lambda: is_watching(home), BEGIN)
        process.terminate()
        process.communicate(timeout=60)
        write(home, "{method: liner}")
        began = time.time()
        store.save("digits", store.State(began - 5 * 60), Workspace(home.root))
        with scheduler(home) as again:
            dealt = lambda: store.state("digits", Workspace(home.root)).dealt > began - 60  # noqa: E731
            assert eventually(lambda: dealt() and not unfinished(home), BEGIN)
            again.terminate()
            return again.communicate(timeout=60)[0].count(": caught up now")


@pytest.mark.long
def test_of_missed_times_all_one_or_none_are_caught_up(home: Home) -> None:
    assert caught_up(home, "none") == 0
    assert caught_up(home, "latest") == 1
    assert caught_up(home, "all") in (5, 6)  # a minute may come round before it watches again


@pytest.mark.long
def test_one_waits_its_turn_and_no_more_and_no_more_are_at_work_than_the_limit(home: Home) -> None:
    configs = write(home, LONG), write(home, LONG, "others")
    with scheduler(home, *configs, "--interval", "4", "--overlap", "queue", "--limit", "1"):
        lease = begun(home)
        time.sleep(10)  # more than two times come
        assert len(leases.live(Workspace(home.root))) == 1
        assert unfinished(home).count("Running") == 1 and 2 <= len(unfinished(home)) <= 4
        os.kill(lease.owner.pid, signal.SIGKILL)
        assert eventually(lambda: status(home, lease) == "KILLED", BEGIN)
        assert begun(home).flow_run != lease.flow_run and len(leases.live(Workspace(home.root))) == 1
    home.headstart("schedule", "--remove", "others")
    assert unfinished(home) == [] and deployed(home) == []


@pytest.mark.long
def test_new_data_makes_one_run(home: Home) -> None:
    for number in range(40):
        picture(home.root / "photos" / "ab"[number % 2] / f"{number}.png", number)
    path = home.root / "pets.yaml"
    path.write_text("\n".join(["name: pets", "ingest: {source: {folder: photos}}", "train: {method: linear}", QUICK]))
    with scheduler(home, str(path), "--watch", "1") as process:
        assert eventually(lambda: len(of_pets(home, "Completed")) == 1, RUN)
        picture(home.root / "photos" / "a" / "100.png", 100)
        assert eventually(lambda: len(of_pets(home, "Completed")) == 2, RUN)
        time.sleep(8)  # several looks
        assert len(of_pets(home, "Completed")) == 2 and unfinished(home) == []
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert out.count("new data") == 2 and err == ""
    home.headstart("schedule", "--remove", "pets")


def of_pets(home: Home, name: str) -> list[dict[str, Any]]:
    return [run for run in runs(home, name) if run["name"].startswith("pets")]
