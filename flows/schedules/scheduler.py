"""The process that works schedules off: makes runs when they are due, starts, watches and ends their processes.

It needs neither torch nor MLflow, and survives what may happen around it: a Prefect server that goes is started again,
a run that dies is closed in Prefect and MLflow, and where it dies itself, the next one goes on: with the runs that are
still at work, and with what was missed. The command `headstart schedule` becomes this process when all is checked.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.objects import State as RunState
from prefect.states import Cancelled

from flows.runs import leases
from flows.runs.flow_runs import finish
from flows.schedules import approvals, deployments, store
from flows.schedules.deployments import GONE
from flows.schedules.endings import ASKED, REPLACED, STOPPED, TIMED_OUT, ending
from flows.schedules.scheduled import MISTAKE, Process, adopted, begin, day_of, end_all, hour_of, tell
from flows.schedules.store import JUST_BEFORE, Claims
from flows.schedules.watching import Watch
from flows.servers.environment import settle
from flows.servers.server import ensure_server
from flows.servers.signals import End, Ended
from tasks.errors import HeadstartError
from tasks.workspace import Workspace

TICK, POLL, LOOK = 0.5, 3.0, 60.0
"""Seconds between two looks at the clock and at processes, at Prefect's server, and for runs that died."""

GRACE = 4.0
"""Seconds that a run has to end in before it is killed: of the ten that Docker gives to all."""


class Scheduler:
    """Works schedules off until a signal ends it.

    Args:
        limit: runs at work at the same time, of all schedules.
        claims: closed where a schedule was removed, and no run of it is at work.
    """

    def __init__(
        self, chosen: Sequence[str], workspace: Workspace, limit: int = 1, claims: Claims | None = None
    ) -> None:
        self.workspace, self.limit, self.claims = workspace, limit, claims or {}
        self.schedules = {name: store.read(name, workspace) for name in chosen}
        self.states = {name: store.state(name, workspace) for name in chosen}
        self.watches = [Watch(name, each.watch) for name, each in self.schedules.items() if each.watch]
        self.deployments: dict[str, UUID] = {}
        self.processes: list[Process] = []
        self.queued: set[str] = set()
        """Schedules of which a flow run waits for its turn."""
        self._left: set[str] = set()
        """Those whose run an earlier scheduler left, until Prefect has said what became of it."""
        self._since = datetime.now(UTC)
        self._polled = self._looked = -LOOK
        self._sweep: subprocess.Popen[bytes] | None = None
        self._client: SyncPrefectClient | None = None
        self._hindered: set[str] = set()
        self._end = End()

    def work(self) -> None:
        """Work the schedules off; returns when it was told to end, and all runs have."""
        self._go_on()
        with self._end.heard():
            try:
                while not self._end.is_told and (self.schedules or self.processes):
                    asleep = time.time() - time.monotonic()
                    with suppress(Ended), self._end.interrupts():
                        time.sleep(TICK)
                    if time.time() - time.monotonic() - asleep > LOOK:
                        self._since = datetime.now(UTC)  # the machine slept, and nothing watched
                    self._tick()
            finally:
                self._end_all()

    def _go_on(self) -> None:
        """Where an earlier scheduler was: its runs are watched if they live; of others, Prefect knows more."""
        alive = {lease.flow_run: lease for lease in leases.live(self.workspace) if lease.schedule in self.schedules}
        self.processes = [adopted(lease) for lease in alive.values() if not lease.owner.is_elsewhere]
        self._left = {name for name, each in self.states.items() if each.flow_run and each.flow_run not in alive}

    def _tick(self) -> None:
        for step in (self._work_off, self._watch_the_clock, self._see_to_the_dead):
            try:
                step()
            except Ended:
                pass
            except (*GONE, HeadstartError) as error:
                told = f"the Prefect server does not answer ({type(error).__name__}): it is looked after"
                self._warn("server", error, told)
                self._hang_up()
            except OSError as error:  # such as a full disk; what is not written down is known all the same
                self._warn("system", error, f"{error}: tried again until it goes")

    def _work_off(self) -> None:
        self._read_again()
        self._see_to_server()
        for process in [each for each in self.processes if each.is_over]:
            self._conclude(process)
        if time.monotonic() - self._polled > POLL:
            self._cancel_what_is_asked()
            self._settle_what_waited()
        for name in self.schedules:
            self._come_due(name)
        for watch in self.watches:
            self._look_at_data(watch)
        if time.monotonic() - self._polled > POLL:
            self._start_what_waits()
            self._apply_answers()
            self._polled = time.monotonic()
        self._hindered.clear()

    def _read_again(self) -> None:
        """Schedules may have been removed meanwhile. Once no run of one is at work, another process may have it."""
        for name in [each for each in self.schedules if store.is_removed(each, self.workspace)]:
            tell(name, "removed")
            del self.schedules[name]
            with suppress(*GONE):
                if self._client:
                    deployments.forget(self._client, self.deployments[name])
        for name in [each for each in self.claims if each not in self.schedules and not self._of(each)]:
            self.claims.pop(name).close()

    def _see_to_server(self) -> None:
        """Have a server to talk to, and the deployments on it."""
        if self._client is not None:
            return
        with self._end.interrupts():
            ensure_server(self.workspace.root)
        client = get_client(sync_client=True).__enter__()
        self.deployments |= deployments.register_all(client, self.schedules.values(), self.workspace)
        self._client = client

    @property
    def client(self) -> SyncPrefectClient:
        assert self._client is not None
        return self._client

    def _warn(self, by: str, error: Exception, line: str) -> None:
        """Say once what hinders, until all goes well again."""
        logging.getLogger("headstart").warning("the scheduler (%s): %s", by, error, exc_info=error)
        if by not in self._hindered:
            tell("schedule", line)
        self._hindered.add(by)

    def _hang_up(self) -> None:
        if self._client is not None:
            with suppress(Exception):
                self._client.__exit__(None, None, None)
        self._client = None

    def _come_due(self, name: str) -> None:
        """Make the runs that are due, by what is to become of those that overlap and those that were missed."""
        schedule, state, now = self.schedules[name], self.states[name], datetime.now(UTC)
        if store.is_paused(name, self.workspace):
            self._keep(name, quietly=True, dealt=now.timestamp())
            return
        if state.dealt - now.timestamp() > LOOK:
            self._turn_back(name, now)
            return
        with self._end.interrupts():  # a rule may have to be worked off from far back
            due = schedule.timetable.after(state.moment)
        if due is None or due > now:
            self._say_next(name, due)
        elif due < self._since:
            self._catch_up(name, due)
        elif self._is_busy(name):
            self._overlap(name, due)
        else:
            self._make(name, due, dealt=due.timestamp())

    def _turn_back(self, name: str, now: datetime) -> None:
        """Have times count from now, where a clock that was ahead had them dealt with for years, say."""
        until = day_of(self.states[name].moment)
        self._since = min(self._since, now)
        self._keep(name, dealt=now.timestamp())
        tell(name, f"was dealt with until {until}, by a clock that was ahead: times count from now")

    def _look_at_data(self, watch: Watch) -> None:
        """Make a run where the data is no longer what a run was made for; while one is at work, once that is over."""
        name, told = watch.name, watch.trouble
        if name not in self.schedules or store.is_paused(name, self.workspace):
            return
        watch.look(self.workspace)
        if watch.trouble and watch.trouble != told:
            tell(name, watch.trouble)
        if watch.settled not in ("", self.states[name].seen) and not self._is_busy(name):
            now = datetime.now(UTC)
            self._make(name, now, dealt=now.timestamp(), occasion=f"{self.states[name].dealt} {watch.settled}")
            tell(name, "new data")

    def _say_next(self, name: str, due: datetime | None) -> None:
        last = "when the data changes" if self.schedules[name].watch else "never again"
        words = day_of(due) if due else last
        if self.states[name].next != words:
            self._keep(name, next=words)

    def _catch_up(self, name: str, due: datetime) -> None:
        missed = self.schedules[name].missed
        broken_off = due.timestamp() - self.states[name].dealt < 2 * JUST_BEFORE  # `_make_due_again`
        if missed == "none" and not broken_off:
            self._keep(name, dealt=self._since.timestamp())
            tell(name, f"missed {hour_of(due)} and later; not caught up")
        elif not self._is_busy(name):
            self._make(name, due, dealt=(due if missed == "all" else self._since).timestamp())
            tell(name, f"missed {hour_of(due)}: caught up now")

    def _overlap(self, name: str, due: datetime) -> None:
        overlap = self.schedules[name].overlap
        if overlap == "skip" or (overlap == "queue" and name in self.queued):
            self._keep(name, dealt=due.timestamp())
            tell(name, f"skipped {hour_of(due)}: the run before is not over")
            return
        if overlap == "cancel":
            self._replace(name)
        self._make(name, due, dealt=due.timestamp())

    def _replace(self, name: str) -> None:
        for process in self._of(name):
            process.end(REPLACED)
        before = self.states[name].flow_run
        if before and not self._of(name):
            finish(self.client, UUID(before), Cancelled(message=f"Ended: {REPLACED}."))

    def _make(self, name: str, due: datetime, dealt: float, occasion: str = "") -> None:
        occasion = occasion or f"{due.isoformat()} {self.states[name].again}"
        run = deployments.make_run(self.client, self.deployments[name], occasion)
        self.queued.add(name)
        # Whatever makes a run, it takes the data as it is by then.
        seen = next((watch.settled for watch in self.watches if watch.name == name), "")
        self._keep(name, dealt=dealt, due=due.timestamp(), flow_run=str(run.id), seen=seen or self.states[name].seen)
        self._polled = -LOOK

    def _is_busy(self, name: str) -> bool:
        """Whether a run is at work, waits for its turn, or for another try."""
        return name in self.queued or bool(self._of(name)) or self.states[name].due is not None

    def _settle_what_waited(self) -> None:
        """A run that waited may have been cancelled or deleted on Prefect's page; one that nobody watched is due again,
        unless it did its work, or waits still."""
        for name in self.schedules:
            flow_run, is_left = self.states[name].flow_run, name in self._left
            if flow_run is None or self._of(name):
                continue
            run = deployments.read_run(self.client, UUID(flow_run))
            self._left.discard(name)
            state = run.state if run else None
            if (state and state.is_completed()) or flow_run in leases.undelivered(self.workspace):
                self._keep(name, due=None, flow_run=None)
            elif (state and state.is_crashed()) or (is_left and not (state and state.is_scheduled())):
                self._make_due_again(name)
            elif run is None or (state and state.is_final()):
                self._keep(name, due=None, flow_run=None)

    def _make_due_again(self, name: str) -> None:
        state = self.states[name]
        dealt = (state.due or state.dealt) - JUST_BEFORE
        self._keep(name, dealt=dealt, due=None, flow_run=None, again=state.again + 1, seen="")

    def _of(self, name: str) -> list[Process]:
        return [each for each in self.processes if each.name == name]

    def _start_what_waits(self) -> None:
        found = deployments.waiting(self.client, list(self.deployments.values()), datetime.now(UTC))
        known = {process.flow_run for process in self.processes}
        waiting = [run for run in found if run.id not in known]
        names = {deployment: name for name, deployment in self.deployments.items() if name in self.schedules}
        for run in waiting:
            name = names.get(run.deployment_id) if run.deployment_id else None
            if name and not self._of(name) and len(self.processes) < self.limit:
                self.processes.append(begin(name, run.id, self.workspace))
                deployments.take(self.client, run.id)
                tell(name, f"{run.name} begins")
        begun = {process.flow_run for process in self.processes}
        late = [run for run in waiting if run.id not in begun]
        self.queued = {names[run.deployment_id] for run in late if run.deployment_id in names}

    def _cancel_what_is_asked(self) -> None:
        if self.processes:
            asked = deployments.to_be_cancelled(self.client, [process.flow_run for process in self.processes])
            for process in self.processes:
                if process.flow_run in asked:
                    process.end(ASKED)

    def _watch_the_clock(self) -> None:
        for process in self.processes:
            schedule = self.schedules.get(process.name)
            if schedule and 0 < schedule.timeout < time.monotonic() - process.began:
                process.end(TIMED_OUT)
            if process.why and time.monotonic() - process.told > GRACE:
                process.kill()

    def _conclude(self, process: Process) -> None:
        """Say of a run that is over what it did not say itself, and have it tried again where that was asked for."""
        run = deployments.read_run(self.client, process.flow_run)
        state = run.state if run else None
        # What a run does when its work is done, such as handing over its log, may be cut short.
        is_done = process.code == 0 or (state is not None and state.is_completed())
        is_done = is_done or str(process.flow_run) in leases.undelivered(self.workspace)
        if run and not is_done:
            if said := ending(process, state):
                self._finish(process, said)
            elif process.code is not None and process.code < 0:  # it could tell Prefect, but not those who read this
                tell(process.name, f"died{process.of_what}")
        is_over = is_done or process.why in (REPLACED, ASKED) or not self._try_again(process, run)
        self.processes.remove(process)
        if is_over and (is_done or process.why != STOPPED) and self._is_current(process):
            self._keep(process.name, due=None, flow_run=None)
        self._looked = -LOOK

    def _finish(self, process: Process, state: RunState) -> None:
        finish(self.client, process.flow_run, state)
        if process.why != REPLACED:
            tell(process.name, f"{state.name.lower()}: {state.message}" if state.name else "ended")

    def _is_current(self, process: Process) -> bool:
        return self.states[process.name].flow_run == str(process.flow_run)

    def _try_again(self, process: Process, run: FlowRun | None) -> bool:
        schedule = self.schedules.get(process.name)
        if schedule is None or run is None or process.code == MISTAKE or process.why == STOPPED:
            return False
        if (tried := deployments.tries(self.client, process.flow_run)) > schedule.retries:
            return False
        wait = timedelta(seconds=schedule.backoff * 2 ** (tried - 1))
        deployments.try_again(self.client, process.flow_run, datetime.now(UTC) + wait)
        tell(process.name, f"failed; tried again in {wait.total_seconds():.0f} s ({tried} of {schedule.retries})")
        return True

    def _see_to_the_dead(self) -> None:
        """Have runs that died closed in MLflow, which another process imports."""
        if time.monotonic() - self._looked < LOOK or (self._sweep and self._sweep.poll() is None):
            return
        self._looked = time.monotonic()
        watched = {str(process.flow_run) for process in self.processes}
        found = [lease for lease in leases.leases(self.workspace) if lease.flow_run not in watched]
        if any(leases.is_dead(lease, self.workspace) for lease in found):
            self._sweep = subprocess.Popen([sys.executable, "-P", "-m", leases.__name__], start_new_session=True)

    def _apply_answers(self) -> None:
        """Have done what was answered to versions that need approval, by another process, which imports MLflow."""
        if not (self._sweep and self._sweep.poll() is None) and approvals.answered(self.workspace):
            self._sweep = subprocess.Popen([sys.executable, "-P", "-m", approvals.__name__], start_new_session=True)

    def _end_all(self) -> None:
        """End what runs, and say so; what was not over will be due again."""
        end_all(self.processes, STOPPED, GRACE)
        for process in list(self.processes) if self._client else []:
            with suppress(*GONE, OSError):
                self._conclude(process)
        self._call_off()
        for watch in self.watches:
            watch.end()
        self.processes, self._looked = [], -LOOK  # what could not be said of them is said of the dead
        with suppress(OSError):  # by what outlives this process: Docker gives all ten seconds, MLflow takes its time
            self._see_to_the_dead()
        self._hang_up()

    def _call_off(self) -> None:
        """Runs that have waited are due again when a scheduler works: the server is not to keep them besides."""
        for name in self.schedules:
            flow_run = self.states[name].flow_run
            if self._client and flow_run and not self._of(name):
                with suppress(*GONE):
                    deployments.call_off(self._client, UUID(flow_run), STOPPED)

    def _keep(self, name: str, quietly: bool = False, **changes: object) -> None:
        self.states[name] = replace(self.states[name], **changes)  # type: ignore[arg-type]
        if not quietly and name in self.schedules:
            store.save(name, self.states[name], self.workspace)


def main(limit: str, *names: str) -> int:
    """Work schedules off; returns the exit code."""
    workspace = Workspace.find()
    settle(workspace)
    try:
        with store.claimed(names, workspace) as claims:
            Scheduler(names, workspace, int(limit), claims).work()
    except HeadstartError as error:
        print(f"error {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
