"""Schedules as they are kept: listed, paused, resumed, removed, and worked off by one process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock, Mock
from uuid import UUID, uuid4

import pytest
import typer
from filelock import FileLock
from httpx import ConnectError
from prefect.states import Cancelled, Completed, Crashed, Pending, Running, Scheduled
from prefect.states import State as RunState

from flows.commands import schedule
from flows.runs import leases
from flows.runs.leases import Lease
from flows.schedules import deployments, store
from flows.schedules.scheduled import Process
from flows.schedules.scheduler import Scheduler
from flows.schedules.store import Schedule, State, claimed, keep, names, scheduler_of, state
from flows.schedules.timetable import Timetable
from tasks.errors import ConfigurationError, ServerError
from tasks.owner import Owner
from tasks.workspace import Workspace
from tests.flows.homes import ROOT, Home, eventually

app = typer.Typer()
app.command()(schedule.schedule)
NIGHTLY = Schedule("digits", "digits.yaml", Timetable("cron", "0 3 * * *", "Europe/Berlin", 5.0), ("train.epochs=5",))


def test_a_schedule_is_read_as_it_was_kept(workspace: Workspace) -> None:
    keep(NIGHTLY, workspace)
    assert store.read("digits", workspace) == NIGHTLY and names(workspace) == ["digits"]


def test_what_another_version_kept_beside_what_is_known_does_no_harm(workspace: Workspace) -> None:
    keep(NIGHTLY, workspace)
    for what in ("settings", "state"):
        path = store.folder_of(workspace) / "digits" / f"{what}.json"
        path.write_text(path.read_text()[:-1] + ', "later": 1}')
    assert store.read("digits", workspace) == NIGHTLY and state("digits", workspace).again == 0


def test_the_same_schedule_again_goes_on_where_it_was_and_another_one_begins_now(workspace: Workspace) -> None:
    keep(NIGHTLY, workspace)
    store.save("digits", State(1000.0), workspace)
    again = keep(replace(NIGHTLY, timetable=replace(NIGHTLY.timetable, anchor=9.0), overlap="queue"), workspace)
    assert state("digits", workspace).dealt == 1000.0
    assert again.overlap == "queue" and again.timetable.anchor == 5.0
    keep(replace(NIGHTLY, timetable=Timetable("cron", "0 4 * * *", "Europe/Berlin")), workspace)
    assert abs(state("digits", workspace).dealt - time.time()) < 60


def test_what_is_due_while_a_schedule_is_paused_is_not_missed(workspace: Workspace) -> None:
    keep(NIGHTLY, workspace)
    store.save("digits", State(1000.0), workspace)
    store.pause("digits", workspace)
    assert store.is_paused("digits", workspace)
    store.resume("digits", workspace)
    assert not store.is_paused("digits", workspace)
    assert datetime.now(UTC).timestamp() - state("digits", workspace).dealt < 60


@pytest.mark.parametrize("change", [store.pause, store.resume, store.remove])
def test_an_unknown_schedule_is_told_with_those_that_there_are(workspace: Workspace, change) -> None:
    keep(NIGHTLY, workspace)
    with pytest.raises(ConfigurationError, match=r"no schedule 'birds'.*there are: digits"):
        change("birds", workspace)
    store.remove("digits", workspace)
    assert names(workspace) == []


def test_one_process_at_a_time_works_a_schedule_off_and_a_killed_one_lets_go(workspace: Workspace) -> None:
    keep(NIGHTLY, workspace)
    code = (
        "import sys; from flows.schedules.store import claimed; from tasks.workspace import Workspace\n"
        "with claimed(['digits'], Workspace.find()): print('mine', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "mine\n"
        owner = scheduler_of("digits", workspace)
        assert owner is not None and owner.pid == other.pid
        taken = f"digits is on schedule .* already, by process {other.pid}"
        with pytest.raises(ServerError, match=taken), claimed(["digits"], workspace):
            pass
        with pytest.raises(ServerError, match=taken):
            store.check_free("digits", workspace)
        other.kill()
    assert eventually(lambda: scheduler_of("digits", workspace) is None, 5)
    with claimed(["digits"], workspace):
        pass


def elsewhere() -> Owner:
    """A process of this machine before it was started anew, or of another one."""
    return replace(Owner.here(), machine="another", pid=999)


def test_a_scheduler_that_went_down_with_its_machine_has_let_go_and_one_on_another_machine_has_not(
    workspace: Workspace,
) -> None:
    keep(NIGHTLY, workspace)
    folder = store.folder_of(workspace) / "digits"
    with claimed(["digits"], workspace):
        (folder / "scheduler.json").write_text(json.dumps(asdict(elsewhere())))
        assert scheduler_of("digits", workspace) == elsewhere()
        with pytest.raises(ServerError, match="already, by process 999"):
            store.check_free("digits", workspace)
    (folder / "scheduler.json").write_text(json.dumps(asdict(elsewhere())))
    assert scheduler_of("digits", workspace) is None
    store.check_free("digits", workspace)
    store.remove("digits", workspace)
    assert not folder.exists()


def test_who_only_looks_whether_a_schedule_is_taken_does_not_keep_others_from_it(workspace: Workspace) -> None:
    keep(NIGHTLY, workspace)
    looking, done = threading.Event(), threading.Event()

    def look() -> None:
        with FileLock(store.folder_of(workspace) / "digits" / "lock"):
            looking.set()
            done.wait(0.2)

    thread = threading.Thread(target=look)
    thread.start()
    assert looking.wait(5)
    with claimed(["digits"], workspace):
        assert (owner := scheduler_of("digits", workspace)) and owner.is_elsewhere is False
    thread.join()


FLOW_RUN = str(uuid4())


def left(workspace: Workspace, *owner: Owner, done: str | None = None) -> Scheduler:
    """A scheduler after one that left a run, whose lease has this owner if there is one."""
    keep(NIGHTLY, workspace)
    store.save("digits", State(2000.0, due=1000.0, flow_run=FLOW_RUN, seen="data"), workspace)
    for each in owner:
        leases.write(Lease(each, FLOW_RUN, "http://127.0.0.1:9/api", "digits", done=done), workspace)
    scheduler = Scheduler(["digits"], workspace)
    scheduler._client = Mock()
    scheduler._go_on()
    return scheduler


def settled(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, says: RunState | None) -> State:
    """What is known of the schedule once Prefect has said this of its run; None: that there is none."""
    run = SimpleNamespace(state=says) if says else None
    monkeypatch.setattr(deployments, "read_run", lambda client, flow_run: run)
    scheduler._settle_what_waited()
    return state("digits", scheduler.workspace)


DUE_AGAIN = State(1000.0 - 1e-3, again=1)
WAITS = State(2000.0, due=1000.0, flow_run=FLOW_RUN, seen="data")
OVER = State(2000.0, seen="data")


@pytest.mark.parametrize(
    ("says", "becomes"),
    [
        (Completed(), OVER), (Scheduled(), WAITS), (Pending(), DUE_AGAIN), (Running(), DUE_AGAIN),
        (Cancelled(), DUE_AGAIN), (Crashed(), DUE_AGAIN), (None, DUE_AGAIN),
    ],
)  # fmt: skip
def test_a_run_that_a_killed_scheduler_left_is_due_again_unless_it_did_its_work_or_waits_still(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, says: RunState | None, becomes: State
) -> None:
    scheduler = left(workspace)
    assert state("digits", workspace) == WAITS
    assert settled(scheduler, monkeypatch, says) == becomes


@pytest.mark.parametrize("missed", ["none", "latest", "all"])
def test_a_run_that_was_broken_off_was_not_missed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, missed: str
) -> None:
    scheduler = left(workspace)
    scheduler.schedules["digits"] = replace(NIGHTLY, missed=missed)
    settled(scheduler, monkeypatch, Crashed())
    made: list[tuple[float, float]] = []
    monkeypatch.setattr(scheduler, "_make", lambda name, due, dealt: made.append((due.timestamp(), dealt)))
    scheduler._catch_up("digits", datetime.fromtimestamp(1000.0, UTC))
    assert made == [(1000.0, 1000.0 if missed == "all" else scheduler._since.timestamp())]
    scheduler._catch_up("digits", datetime.fromtimestamp(1060.0, UTC))
    assert len(made) == (1 if missed == "none" else 2)


def test_a_run_that_went_down_with_its_machine_is_due_again_once_it_is_found_dead(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = left(workspace, elsewhere())
    assert scheduler.processes == [] and settled(scheduler, monkeypatch, Running()) == WAITS
    assert settled(scheduler, monkeypatch, Crashed()) == DUE_AGAIN


@pytest.mark.parametrize(("says", "becomes"), [(Completed(), OVER), (Cancelled(), OVER), (None, OVER)])
def test_a_run_at_work_elsewhere_that_is_done_cancelled_or_deleted_is_over(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, says: RunState | None, becomes: State
) -> None:
    assert settled(left(workspace, elsewhere()), monkeypatch, says) == becomes


def test_a_run_that_could_not_say_that_it_is_done_is_not_made_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = replace(Owner.here(), began=1.0)
    assert settled(left(workspace, gone, done="digits version 1"), monkeypatch, Running()) == OVER
    finished = Mock()
    monkeypatch.setattr("flows.schedules.scheduler.finish", finished)
    scheduler = left(workspace, gone, done="digits version 1")
    scheduler.processes = [Process("digits", UUID(FLOW_RUN), gone, None, 0.0)]
    scheduler._conclude(scheduler.processes[0])
    assert not finished.called and state("digits", workspace) == OVER


def test_a_run_that_died_is_tried_again_also_where_the_server_goes_in_the_middle_of_saying_so(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = left(workspace, replace(Owner.here(), began=1.0))
    scheduler.schedules["digits"] = replace(NIGHTLY, retries=1)
    monkeypatch.setattr(deployments, "read_run", lambda *_: SimpleNamespace(state=Running()))
    monkeypatch.setattr(deployments, "tries", lambda *_: 1)
    monkeypatch.setattr("flows.schedules.scheduler.finish", Mock())
    monkeypatch.setattr(deployments, "try_again", Mock(side_effect=[ConnectError("gone"), None]))
    scheduler.processes = [Process("digits", UUID(FLOW_RUN), Owner.here(), None, 0.0)]
    with pytest.raises(ConnectError):
        scheduler._conclude(scheduler.processes[0])
    scheduler._conclude(scheduler.processes[0])
    assert scheduler.processes == [] and state("digits", workspace) == WAITS


def test_tries_that_end_before_they_are_at_work_are_counted(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scheduler, states = left(workspace), [Scheduled()]
    scheduler.schedules["digits"] = replace(NIGHTLY, retries=2, backoff=60.0)
    client = MagicMock()
    client.read_flow_run = lambda _: SimpleNamespace(state=states[-1], run_count=0)
    client.read_task_runs.return_value = []
    client.read_flow_run_states = lambda _: list(states)
    client.set_flow_run_state = lambda _, state, force: states.append(state)
    for _ in range(3):
        scheduler._client = client  # of one that may have been started anew
        states.append(Pending())
        scheduler.processes = [Process("digits", UUID(FLOW_RUN), Owner.here(), None, 0.0)]
        scheduler._conclude(scheduler.processes[0])
    told = capsys.readouterr().out
    assert "again in 60 s (1 of 2)" in told and "again in 120 s (2 of 2)" in told and told.count("tried again") == 2
    assert states[-1].is_crashed() and state("digits", workspace) == OVER


def idle(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    """A scheduler to which a server answers, and which has nothing to ask it."""
    keep(NIGHTLY, workspace)
    scheduler = Scheduler(["digits"], workspace)
    scheduler._client, scheduler.deployments, scheduler._polled = Mock(), {"digits": uuid4()}, float("inf")
    monkeypatch.setattr(scheduler, "_see_to_the_dead", lambda: None)
    return scheduler


def test_a_time_that_takes_long_to_find_does_not_keep_a_scheduler_from_ending(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = idle(workspace, monkeypatch)

    def search(_, moment: datetime) -> datetime:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        return moment

    monkeypatch.setattr(Timetable, "after", search)
    began = time.monotonic()
    with scheduler._end.heard():
        scheduler._tick()
    assert scheduler._end.is_told and time.monotonic() - began < 30


def test_a_clock_that_was_ahead_once_does_not_silence_a_schedule(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(NIGHTLY, workspace)
    ahead = datetime(2100, 1, 1, 12, tzinfo=UTC).timestamp()
    (store.folder_of(workspace) / "digits" / "state.json").write_text(json.dumps({"dealt": ahead}))
    scheduler = Scheduler(["digits"], workspace)
    scheduler._since = datetime(2100, 1, 1, 12, tzinfo=UTC)  # it is set right while this works
    monkeypatch.setattr(scheduler, "_make", Mock())
    scheduler._come_due("digits")
    assert abs(state("digits", workspace).dealt - time.time()) < 30
    scheduler._come_due("digits")
    told = capsys.readouterr().out
    assert "01 Jan 2100" in told and told.count("by a clock that was ahead: times count from now") == 1
    assert (
        0
        < datetime.strptime(state("digits", workspace).next, "%a %d %b %Y %H:%M:%S").timestamp() - time.time()
        < 2 * 86400
    )
    scheduler.states["digits"] = State(time.time() - 2 * 86400)
    scheduler._come_due("digits")
    assert scheduler._make.call_args.kwargs["dealt"] <= time.time()  # type: ignore[attr-defined]


def test_a_drive_that_is_away_removes_no_schedule(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scheduler, forgotten = idle(workspace, monkeypatch), Mock()
    monkeypatch.setattr(deployments, "forget", forgotten)
    with claimed(["digits"], workspace):
        workspace.mlruns.rename(workspace.root / "away")
        scheduler._tick()
        scheduler._tick()
        assert list(scheduler.schedules) == ["digits"] and not workspace.mlruns.exists() and not forgotten.called
        assert capsys.readouterr().out.count("tried again until it goes") == 1
        (workspace.root / "away").rename(workspace.mlruns)
        scheduler._tick()
        assert list(scheduler.schedules) == ["digits"]
        store.remove("digits", workspace)
        scheduler._tick()
        assert scheduler.schedules == {} and forgotten.called
    assert "digits: removed" in capsys.readouterr().out


def test_a_removed_schedule_is_let_go_once_no_run_of_it_is_at_work(workspace: Workspace) -> None:
    keep(replace(NIGHTLY, name="birds"), workspace)
    keep(NIGHTLY, workspace)
    store.pause("digits", workspace)
    with claimed(["digits", "birds"], workspace) as claims:
        scheduler = Scheduler(["digits", "birds"], workspace, claims=claims)
        scheduler.processes = [Process("digits", uuid4(), Owner.here(), None, time.monotonic())]
        store.remove("digits", workspace)
        scheduler._read_again()
        assert list(scheduler.schedules) == ["birds"]
        with pytest.raises(ServerError, match="digits is on schedule"):
            store.check_free("digits", workspace)
        scheduler.processes = []
        scheduler._read_again()
        keep(NIGHTLY, workspace)
        assert not store.is_paused("digits", workspace)
        with claimed(["digits"], workspace):  # by another process, as a rule
            scheduler._read_again()
            assert scheduler_of("digits", workspace) and list(scheduler.schedules) == ["birds"]
        with pytest.raises(ServerError, match="birds is on schedule"):
            store.check_free("birds", workspace)
    assert scheduler_of("birds", workspace) is None


def test_a_paused_schedule_that_is_put_down_again_is_said_to_wait(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(NIGHTLY, workspace)
    store.pause("digits", workspace)
    monkeypatch.setattr("flows.servers.server.ensure_server", lambda _: "http://127.0.0.1:4200/api")
    monkeypatch.setattr("os.execve", Mock())
    schedule._become_scheduler([NIGHTLY], workspace, 1)
    assert "; paused until `headstart schedule --resume digits`" in capsys.readouterr().out
    store.resume("digits", workspace)
    schedule._become_scheduler([NIGHTLY], workspace, 1)
    assert "paused" not in capsys.readouterr().out


def test_a_schedule_whose_folder_was_deleted_by_hand_is_removed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = idle(workspace, monkeypatch)
    shutil.rmtree(store.folder_of(workspace) / "digits")
    scheduler._tick()
    assert scheduler.schedules == {}


def test_deployments_stay_where_the_schedules_cannot_be_reached(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten = Mock()
    monkeypatch.setattr(deployments, "register", lambda *_: uuid4())
    monkeypatch.setattr(deployments, "values_of", lambda *_: {})
    monkeypatch.setattr(deployments, "forget_removed", forgotten)
    deployments.register_all(Mock(), [NIGHTLY], workspace)
    assert not forgotten.called
    keep(NIGHTLY, workspace)
    assert list(deployments.register_all(Mock(), [NIGHTLY], workspace)) == ["digits"] and forgotten.called


def test_what_the_system_refuses_does_not_end_a_scheduler(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scheduler = idle(workspace, monkeypatch)
    monkeypatch.setattr(store, "is_removed", Mock(side_effect=OSError(116, "Stale file handle")))
    monkeypatch.setattr(scheduler, "_see_to_the_dead", Mock(side_effect=OSError(12, "Cannot allocate memory")))
    scheduler._tick()
    scheduler._tick()
    assert capsys.readouterr().out.count("Stale file handle") == 1


def test_a_scheduler_that_is_ended_while_the_server_is_away_ends_its_runs_and_leaves_them_due(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True) as child:
        scheduler, swept, watch = left(workspace, Owner.of(child.pid)), Mock(), Mock()
        scheduler.processes = [Process("digits", UUID(FLOW_RUN), Owner.of(child.pid), child, time.monotonic())]
        scheduler.watches, scheduler._client = [watch], None
        monkeypatch.setattr("flows.schedules.scheduler.subprocess.Popen", swept)
        scheduler._end_all()
        assert child.returncode is not None and watch.end.called
    assert leases.__name__ in swept.call_args.args[0]  # what died is said of by another process
    assert state("digits", workspace) == WAITS


def test_a_full_disk_does_not_end_a_scheduler(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(NIGHTLY, workspace)
    scheduler = Scheduler(["digits"], workspace)
    monkeypatch.setattr(scheduler, "_see_to_server", lambda: None)
    monkeypatch.setattr(scheduler, "_see_to_the_dead", lambda: None)
    monkeypatch.setattr(store, "save", Mock(side_effect=OSError(28, "No space left on device")))
    for _ in range(2):
        scheduler._polled = float("inf")
        scheduler._tick()
    told = capsys.readouterr().out
    assert told.count("No space left on device: tried again until it goes") == 1


def test_a_configuration_in_the_workspace_moves_with_it(workspace: Workspace, tmp_path: Path) -> None:
    assert store.place_of(workspace.root / "configs" / "a.yaml", workspace) == "configs/a.yaml"
    assert store.place_of(tmp_path / "b.yaml", workspace) == str(tmp_path / "b.yaml")
    (tmp_path / "another name").symlink_to(workspace.root)
    assert store.place_of(tmp_path / "another name" / "a.yaml", workspace) == "a.yaml"


def test_a_configuration_behind_a_link_is_looked_for_where_that_leads_by_then(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for release in ("1", "2"):
        (tmp_path / "releases" / release).mkdir(parents=True)
        (tmp_path / "releases" / release / "a.yaml").write_text(release)
    current, within = tmp_path / "releases" / "current", workspace.root / "a.yaml"
    current.symlink_to("1")
    within.symlink_to(current / "a.yaml")  # as Kubernetes puts files of a ConfigMap there
    monkeypatch.chdir(tmp_path / "releases")
    places = [store.place_of(Path(config), workspace) for config in (current / "a.yaml", "current/a.yaml", within)]
    current.unlink()
    current.symlink_to("2")
    assert [(workspace.root / place).read_text() for place in places] == ["2", "2", "2"]


def test_a_pipeline_of_the_same_name_in_another_file_does_not_take_a_schedules_place(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, other, link = (workspace.root / f"{each}.yaml" for each in ("teamA/digits", "teamB/digits", "link"))
    for path in (first, other):
        path.parent.mkdir(parents=True)
        path.write_text((ROOT / "configs" / "digits.yaml").read_text())
    link.symlink_to(first)
    monkeypatch.setattr(schedule, "open_workspace", lambda: Workspace(workspace.root))
    monkeypatch.setattr(schedule, "check", lambda *_: None)
    monkeypatch.setattr(schedule, "_become_scheduler", lambda *_: None)

    def put(path: Path, overlap: str = "skip", name: str = "digits") -> str:
        given = [str(path), "--cron", "0 3 * * *", "--timezone", "UTC", "--overlap", overlap, "-s", f"name={name}"]
        typer.main.get_command(app).main(given, standalone_mode=False)
        return store.read(name, workspace).config

    assert put(first) == "teamA/digits.yaml"
    store.save("digits", State(1000.0), workspace)
    with pytest.raises(ConfigurationError, match=r"already, by teamA/digits.yaml: .*--remove digits. first.*-s name="):
        put(other)
    assert store.read("digits", workspace).config == "teamA/digits.yaml"
    assert put(other, name="others") == "teamB/digits.yaml"
    assert put(first, "queue") == "teamA/digits.yaml" and store.read("digits", workspace).overlap == "queue"
    assert put(link) == "link.yaml" and put(first) == "teamA/digits.yaml"
    workspace.root.rename(workspace.root.with_name("moved"))
    workspace = Workspace(workspace.root.with_name("moved"))
    first, other = (workspace.root / path.relative_to(path.parents[1]) for path in (first, other))
    assert put(first) == "teamA/digits.yaml" and state("digits", workspace).dealt == 1000.0
    assert capsys.readouterr().out == ""
    first.unlink()
    assert put(other) == "teamB/digits.yaml" and state("digits", workspace).dealt == 1000.0
    assert "digits: in place of the schedule by teamA/digits.yaml, which is no longer" in capsys.readouterr().out


def test_schedules_are_listed_and_managed_without_a_server(workspace: Workspace) -> None:
    keep(NIGHTLY, workspace)
    home = Home(workspace.root)
    listed = home.headstart("schedule", "--list")
    assert listed.stderr == "" and "cron 0 3 * * * (Europe/Berlin)" in listed.stdout and "not running" in listed.stdout
    assert "paused" in home.headstart("schedule", "--pause", "digits").stdout
    resumed = home.headstart("schedule", "--resume", "digits").stdout
    assert "not running" in resumed and "paused" not in resumed
    unknown = home.headstart("schedule", "--resume", "birds")
    assert unknown.returncode == 2 and "no schedule 'birds'" in unknown.stderr
    assert "nothing is on schedule" in home.headstart("schedule", "--remove", "digits").stdout
    assert not (workspace.mlruns / "prefect" / "server.json").exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--retries", "3", "-s", "name=x"), "go on as they were kept: leave --retries and --set out"),
        (("--list", "configs/digits.yaml", "--cron", "0 3 * * *"), "start nothing: leave CONFIG and --cron out"),
    ],
    ids=["all", "list"],
)
def test_what_would_be_ignored_is_refused(workspace: Workspace, given: tuple[str, ...], told: str) -> None:
    keep(NIGHTLY, workspace)
    finished = Home(workspace.root).headstart("schedule", *given)
    assert finished.returncode == 2 and told in finished.stderr and not finished.stdout


def test_serve_is_called_schedule_now(workspace: Workspace) -> None:
    told = Home(workspace.root).headstart("serve", "configs/digits.yaml", "--cron", "0 3 * * *")
    assert told.returncode == 2 and told.stdout == ""
    assert "called `headstart schedule` now" in told.stderr and len(told.stderr.strip().splitlines()) == 1
