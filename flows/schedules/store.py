"""Schedules as a workspace keeps them, in ``mlruns/schedules/NAME``: what is to run when, and how far it has come.

========== ===================================================================================================
settings   what was asked for; written by `headstart schedule CONFIG`
state      the time up to which all is dealt with, and the run that is not over; written by the scheduler only
paused     there while it is paused
scheduler  the process that works it off; it holds ``lock``, so there is one at a time
========== ===================================================================================================

Files, not a server, say this: a list takes no time, and a schedule outlives whatever happens to the Prefect server.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from flows.schedules.timetable import Timetable
from tasks.errors import ConfigurationError, ServerError
from tasks.owner import Owner
from tasks.workspace import Workspace, write_whole

PATIENCE = 1.0
"""Seconds to wait for a lock, which somebody may have for a moment to see whether it is held."""

Claims = dict[str, ExitStack]
"""By the names of schedules, what lets one go when it is closed."""


@dataclass(frozen=True)
class Schedule:
    """What is to run when.

    Args:
        name: of the pipeline.
        config: its configuration, which is read anew for each run; from the workspace's root where it lies below.
        overrides: as given with ``--set``.
        overlap: what becomes of a time that comes while a run is at work: ``skip`` it, ``queue`` one run behind that
            one, or ``cancel`` that one.
        missed: what becomes of times at which nothing watched: one run for the ``latest``, ``all`` one after another,
            or ``none``.
        retries: how often a run that failed is tried again, after ``backoff`` seconds, then twice as many, and so on.
        timeout: seconds after which a run is ended; 0: never.
        watch: seconds between two looks at the data, which makes a run when it has changed; 0: none.
    """

    name: str
    config: str
    timetable: Timetable
    overrides: tuple[str, ...] = ()
    overlap: str = "skip"
    missed: str = "latest"
    retries: int = 0
    backoff: float = 60.0
    timeout: float = 0.0
    watch: float = 0.0

    @property
    def when(self) -> str:
        """When it is due."""
        return self._told(str(self.timetable))

    @property
    def in_words(self) -> str:
        """The same, with the next times."""
        return self._told(self.timetable.in_words)

    def _told(self, times: str) -> str:
        change = f"when the data changes (a look every {self.watch:g} s)" if self.watch else ""
        return "; ".join(filter(None, [times, change]))


JUST_BEFORE = 1e-3
"""Seconds before the time of a run that was broken off, up to which all is dealt with: it is due again."""


@dataclass(frozen=True)
class State:
    """How far a schedule has come.

    Args:
        dealt: seconds since the epoch up to which nothing is left to be done.
        due: the time that the run which is not over is for; None: there is none.
        flow_run: that run.
        again: how often a run has been picked up that a scheduler left unfinished.
        next: when it is due next, in words.
        seen: what the data was like that a run was made for; see `flows.schedules.watching.Watch`.
    """

    dealt: float
    due: float | None = None
    flow_run: str | None = None
    again: int = 0
    next: str = ""
    seen: str = ""

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.dealt, UTC)


def folder_of(workspace: Workspace) -> Path:
    """Where the schedules of a workspace lie."""
    return workspace.mlruns / "schedules"


def names(workspace: Workspace) -> list[str]:
    """All schedules, in the order of their names."""
    return sorted(path.parent.name for path in folder_of(workspace).glob("*/settings.json"))


def is_removed(name: str, workspace: Workspace) -> bool:
    """Whether a schedule was removed while its scheduler works, which keeps ``lock`` there; a drive that is away is no
    removal.

    Raises:
        OSError: the schedules cannot be reached.
    """
    try:
        there = os.listdir(folder_of(workspace) / name)  # one look: what is gone and comes back is not half of each
    except FileNotFoundError:
        return name not in os.listdir(folder_of(workspace))  # else by hand, the whole folder
    return "lock" in there and "settings.json" not in there


def keep(schedule: Schedule, workspace: Workspace) -> Schedule:
    """Put a schedule down, in place of one of its name.

    What was missed of it counts as missed where it is due as before; a schedule that was changed begins now.
    """
    before = None
    with suppress(ConfigurationError):
        before = read(schedule.name, workspace)
    if before and replace(before.timetable, anchor=0) == replace(schedule.timetable, anchor=0):
        schedule = replace(schedule, timetable=before.timetable)
    else:
        save(schedule.name, State(datetime.now(UTC).timestamp()), workspace)
    _write(schedule.name, "settings", asdict(schedule), workspace)
    return schedule


def read(name: str, workspace: Workspace) -> Schedule:
    """A schedule that is kept.

    Raises:
        ConfigurationError: there is none of the name.
    """
    kept = _read(name, "settings", workspace)
    if kept is None:
        known = ", ".join(names(workspace)) or "none yet"
        raise ConfigurationError(f"no schedule {name!r} in {workspace.root}; there are: {known}")
    timetable = Timetable(**kept.pop("timetable"))
    return Schedule(**_known(Schedule, kept) | {"timetable": timetable, "overrides": tuple(kept["overrides"])})


def state(name: str, workspace: Workspace) -> State:
    """How far a schedule has come; nowhere before now where that is not known."""
    kept = _read(name, "state", workspace)
    return State(**_known(State, kept)) if kept else State(datetime.now(UTC).timestamp())


def save(name: str, state: State, workspace: Workspace) -> None:
    """Keep how far a schedule has come."""
    _write(name, "state", asdict(state), workspace)


def is_paused(name: str, workspace: Workspace) -> bool:
    """Whether a schedule is to wait."""
    return (folder_of(workspace) / name / "paused").exists()


def pause(name: str, workspace: Workspace) -> None:
    """Have a schedule wait; a run at work goes on.

    Raises:
        ConfigurationError: there is none of the name.
    """
    read(name, workspace)
    (folder_of(workspace) / name / "paused").touch()


def resume(name: str, workspace: Workspace) -> None:
    """Have a schedule go on; what was due meanwhile is not missed.

    Raises:
        ConfigurationError: there is none of the name.
    """
    read(name, workspace)
    if is_paused(name, workspace):
        if scheduler_of(name, workspace) is None:
            save(name, replace(state(name, workspace), dealt=datetime.now(UTC).timestamp()), workspace)
        (folder_of(workspace) / name / "paused").unlink(missing_ok=True)


def remove(name: str, workspace: Workspace) -> None:
    """Forget a schedule; a run at work is let finish.

    Raises:
        ConfigurationError: there is none of the name.
    """
    read(name, workspace)
    for what in ("settings.json", "paused"):  # the rest is its scheduler's, until that lets it go
        (folder_of(workspace) / name / what).unlink(missing_ok=True)
    if scheduler_of(name, workspace) is None:
        shutil.rmtree(folder_of(workspace) / name, ignore_errors=True)


def scheduler_of(name: str, workspace: Workspace) -> Owner | None:
    """The process that works a schedule off; None where none is known to live.

    One that went down with its machine, container or node has said nothing, and left no process to ask for. Its lock is
    free.
    """
    kept = _read(name, "scheduler", workspace)
    owner = Owner(**kept) if kept else None
    if owner is None or owner.is_dead or (owner.is_elsewhere and not _is_held(_lock_of(name, workspace))):
        return None
    return owner


def _lock_of(name: str, workspace: Workspace) -> Path:
    return folder_of(workspace) / name / "lock"


def _is_held(lock: Path) -> bool:
    try:
        with FileLock(lock, timeout=0):
            return False
    except (Timeout, OSError):  # where it cannot be tried, the one who wrote that it has it is believed
        return True


@contextmanager
def claimed(chosen: Sequence[str], workspace: Workspace) -> Iterator[Claims]:
    """Be the one process that works these schedules off, for as long as the block takes.

    Yields the claim of each, to be closed where it is let go before.

    Raises:
        ServerError: another one does.
    """
    with ExitStack() as stack:
        claims = {name: stack.enter_context(ExitStack()) for name in chosen}
        for name, claim in claims.items():
            folder = folder_of(workspace) / name
            folder.mkdir(parents=True, exist_ok=True)
            try:
                claim.enter_context(FileLock(_lock_of(name, workspace), timeout=PATIENCE))
            except Timeout as error:
                raise ServerError(_taken(name, workspace)) from error
            _write(name, "scheduler", asdict(Owner.here()), workspace)
            claim.callback((folder / "scheduler.json").unlink, missing_ok=True)
        yield claims


def check_free(name: str, workspace: Workspace) -> None:
    """Raise if another process works a schedule off.

    Raises:
        ServerError: one does.
    """
    if scheduler_of(name, workspace):
        raise ServerError(_taken(name, workspace))


def replaced(name: str, place: str, workspace: Workspace) -> str | None:
    """The configuration that a schedule of this name is kept with, where it is another one and no longer there; None
    where there is none, or it is the same.

    Raises:
        ConfigurationError: it is there still.
    """
    kept = None
    with suppress(ConfigurationError):
        kept = read(name, workspace).config
    if kept is None or kept == place:
        return None
    before, now = (os.path.join(workspace.root, each) for each in (kept, place))
    if not os.path.exists(before):
        return kept
    if not os.path.samefile(before, now):
        raise ConfigurationError(
            f"{name} is on schedule already, by {kept}: `headstart schedule --remove {name}` first, or give this "
            "pipeline another name (-s name=...)"
        )
    return None


def _taken(name: str, workspace: Workspace) -> str:
    holder = scheduler_of(name, workspace)
    whose = f"process {holder.pid} of {holder.who} on {holder.host}" if holder else "another process"
    return (
        f"{name} is on schedule in {workspace.root} already, by {whose}: end that one first, or give the pipeline "
        "another name (-s name=...)"
    )


def _write(name: str, what: str, content: dict[str, Any], workspace: Workspace) -> None:
    folder = folder_of(workspace) / name
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{what}.json", json.dumps(content))


def _read(name: str, what: str, workspace: Workspace) -> dict[str, Any] | None:
    try:
        content = json.loads((folder_of(workspace) / name / f"{what}.json").read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else None
    except (OSError, ValueError):
        return None


def _known(kind: type, kept: dict[str, Any]) -> dict[str, Any]:
    """What this version knows of what another one may have kept."""
    return {name: value for name, value in kept.items() if name in kind.__dataclass_fields__}  # type: ignore[attr-defined]


def place_of(config: Path, workspace: Workspace) -> str:
    """A configuration's path as a schedule keeps it, so that it moves with the workspace. Links on the way stay links:
    tomorrow they may lead to another release."""
    whole = Path(os.path.abspath(config))
    root = next((folder for folder in whole.parents if folder.resolve() == workspace.root.resolve()), None)
    return os.fspath(whole.relative_to(root) if root else whole)
