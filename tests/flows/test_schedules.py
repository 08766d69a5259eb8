"""Schedules as they are kept: listed, paused, resumed, removed, and worked off by one process."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pytest

from flows import schedules
from flows.scheduler import Scheduler
from flows.schedules import Schedule, State, claimed, keep, names, scheduler_of, state
from flows.timetable import Timetable
from tasks.errors import ConfigurationError, ServerError
from tasks.workspace import Workspace
from tests.flows.homes import ROOT, Home, eventually

NIGHTLY = Schedule("digits", "digits.yaml", Timetable("cron", "0 3 * * *", "Europe/Berlin", 5.0), ("train.epochs=5",))


def test_a_schedule_is_read_as_it_was_kept(workspace: Workspace) -> None:
    keep(NIGHTLY, workspace)
    assert schedules.read("digits", workspace) == NIGHTLY and names(workspace) == ["digits"]


def test_what_another_version_kept_beside_what_is_known_does_no_harm(workspace: Workspace) -> None:
    keep(NIGHTLY, workspace)
    for what in ("settings", "state"):
        path = schedules.folder_of(workspace) / "digits" / f"{what}.json"
        path.write_text(path.read_text()[:-1] + ', "later": 1}')
    assert schedules.read("digits", workspace) == NIGHTLY and state("digits", workspace).again == 0


def test_the_same_schedule_again_goes_on_where_it_was_and_another_one_begins_now(workspace: Workspace) -> None:
    keep(NIGHTLY, workspace)
    schedules.save("digits", State(1000.0), workspace)
    again = keep(replace(NIGHTLY, timetable=replace(NIGHTLY.timetable, anchor=9.0), overlap="queue"), workspace)
    assert state("digits", workspace).dealt == 1000.0
    assert again.overlap == "queue" and again.timetable.anchor == 5.0
    keep(replace(NIGHTLY, timetable=Timetable("cron", "0 4 * * *", "Europe/Berlin")), workspace)
    assert abs(state("digits", workspace).dealt - time.time()) < 60


def test_what_is_due_while_a_schedule_is_paused_is_not_missed(workspace: Workspace) -> None:
    keep(NIGHTLY, workspace)
    schedules.save("digits", State(1000.0), workspace)
    schedules.pause("digits", workspace)
    assert schedules.is_paused("digits", workspace)
    schedules.resume("digits", workspace)
    assert not schedules.is_paused("digits", workspace)
    assert datetime.now(UTC).timestamp() - state("digits", workspace).dealt < 60


@pytest.mark.parametrize("change", [schedules.pause, schedules.resume, schedules.remove])
def test_an_unknown_schedule_is_told_with_those_that_there_are(workspace: Workspace, change) -> None:
    keep(NIGHTLY, workspace)
    with pytest.raises(ConfigurationError, match=r"no schedule 'birds'.*there are: digits"):
        change("birds", workspace)
    schedules.remove("digits", workspace)
    assert names(workspace) == []


def test_one_process_at_a_time_works_a_schedule_off_and_a_killed_one_lets_go(workspace: Workspace) -> None:
    keep(NIGHTLY, workspace)
    code = (
        "import sys; from flows.schedules import claimed; from tasks.workspace import Workspace\n"
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
            schedules.check_free("digits", workspace)
        other.kill()
    assert eventually(lambda: scheduler_of("digits", workspace) is None, 5)
    with claimed(["digits"], workspace):
        pass


def test_a_full_disk_does_not_end_a_scheduler(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(NIGHTLY, workspace)
    scheduler = Scheduler(["digits"], workspace)
    monkeypatch.setattr(scheduler, "_see_to_server", lambda: None)
    monkeypatch.setattr(scheduler, "_see_to_the_dead", lambda: None)
    monkeypatch.setattr(schedules, "save", Mock(side_effect=OSError(28, "No space left on device")))
    for _ in range(2):
        scheduler._polled = float("inf")
        scheduler._tick()
    told = capsys.readouterr().out
    assert told.count("No space left on device: tried again until it goes") == 1


def test_a_configuration_in_the_workspace_moves_with_it(workspace: Workspace, tmp_path: Path) -> None:
    assert schedules.place_of(workspace.root / "configs" / "a.yaml", workspace) == "configs/a.yaml"
    assert schedules.place_of(tmp_path / "b.yaml", workspace) == str((tmp_path / "b.yaml").resolve())


def test_schedules_are_listed_and_managed_without_a_server(workspace: Workspace) -> None:
    keep(NIGHTLY, workspace)
    home = Home(workspace.root)
    listed = home.headstart("schedule", "--list")
    assert listed.stderr == "" and "cron 0 3 * * * (Europe/Berlin)" in listed.stdout and "not running" in listed.stdout
    assert "paused" in home.headstart("schedule", "--pause", "digits").stdout
    assert "nothing is on schedule" in home.headstart("schedule", "--remove", "digits").stdout
    assert not (workspace.mlruns / "prefect" / "server.json").exists()


def test_serve_is_called_schedule_now(workspace: Workspace) -> None:
    told = Home(workspace.root).headstart("serve", "configs/digits.yaml", "--cron", "0 3 * * *")
    assert told.returncode == 2 and told.stdout == ""
    assert "called `headstart schedule` now" in told.stderr and len(told.stderr.strip().splitlines()) == 1
