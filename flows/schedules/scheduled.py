"""One run of a schedule, as a process of its own: ``python -m flows.schedules.scheduled NAME FLOW_RUN``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TextIO
from uuid import UUID

import psutil

from flows.config import PipelineConfig, read_config
from flows.runs import leases
from flows.schedules import store
from tasks.errors import ConfigurationError, HeadstartError
from tasks.owner import Owner
from tasks.workspace import Workspace

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

IMPATIENT = {"PREFECT_CLIENT_MAX_RETRIES": "0", "PREFECT_API_REQUEST_TIMEOUT": "10"}
"""How the scheduler talks to Prefect's server, so that it hears signals meanwhile; its runs have more patience."""

PAUSE = 0.1
"""Seconds between two looks at runs that are to end."""

MISTAKE = 2
"""Exit code where trying again changes nothing: the configuration is wrong."""


@dataclass
class Process:
    """The process of a run: a child of this one, or one that an earlier scheduler began.

    Args:
        why: what it was told to end for; empty: it was not.
    """

    name: str
    flow_run: UUID
    owner: Owner
    child: subprocess.Popen[bytes] | None
    began: float
    why: str = ""
    told: float = 0.0

    @property
    def is_over(self) -> bool:
        return self.owner.is_dead if self.child is None else self.child.poll() is not None

    @property
    def code(self) -> int | None:
        """Its exit code; None where it is another's child, whom the system does not tell."""
        return self.child.poll() if self.child else None

    @property
    def of_what(self) -> str:
        """What it died of, to stand behind "died"; empty where nobody knows."""
        if self.code is None:
            return ""
        return f" of {signal.Signals(-self.code).name}" if self.code < 0 else f" with exit code {self.code}"

    def end(self, why: str) -> None:
        """Ask it to end."""
        if not self.why:
            self.why, self.told = why, time.monotonic()
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it, and what it started."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.is_over:
            return
        with suppress(ProcessLookupError, PermissionError):
            if number == signal.SIGKILL:
                os.killpg(self.owner.pid, number)
            else:
                os.kill(self.owner.pid, number)


def begin(name: str, flow_run: UUID, workspace: Workspace) -> Process:
    """Start a run. It has a session of its own, so that Ctrl-C reaches the scheduler only."""
    # -P: a folder called flows where the process begins is not taken for ours.
    command = [sys.executable, "-P", "-m", __name__, name, str(flow_run)]
    settings = {key: value for key, value in os.environ.items() if key not in IMPATIENT}
    child = subprocess.Popen(
        command, cwd=workspace.root, env=settings, stdin=subprocess.DEVNULL, start_new_session=True
    )
    owner = Owner.of(child.pid)
    # On its behalf: it takes seconds until it can.
    try:
        api = os.environ.get("PREFECT_API_URL", "")
        lease = leases.Lease(owner, str(flow_run), api, name, own=leases.is_own(api, workspace))
        leases.write(lease, workspace)
    except OSError:  # nobody would know of it
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    return Process(name, flow_run, owner, child, time.monotonic())


def adopted(lease: leases.Lease) -> Process:
    """A run that an earlier scheduler began, and that outlived it."""
    age = 0.0
    with suppress(psutil.Error):
        age = time.time() - psutil.Process(lease.owner.pid).create_time()
    return Process(lease.schedule or "", UUID(lease.flow_run), lease.owner, None, time.monotonic() - age)


def end_all(processes: Sequence[Process], why: str, grace: float) -> None:
    """Ask runs to end, and kill those that have not within so many seconds."""
    for process in processes:
        process.end(why)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and not all(process.is_over for process in processes):
        time.sleep(PAUSE)
    for process in processes:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.child and process.child.wait(grace)


def main(name: str, flow_run_id: str) -> int:
    """Run the pipeline as its configuration stands now, or as Prefect's page was told; returns the exit code."""
    from flows.servers.environment import settle

    workspace = Workspace.find()
    settle(workspace)
    from flows.schedules.deployments import is_changed

    def read(flow_run: FlowRun, client: SyncPrefectClient) -> PipelineConfig:
        schedule = store.read(name, workspace)
        if is_changed(client, flow_run):
            return PipelineConfig.model_validate(flow_run.parameters["config"])
        return read_config(workspace.root / schedule.config, schedule.overrides, PipelineConfig)

    return run_as(name, UUID(flow_run_id), workspace, read)


def run_as(
    name: str, flow_run_id: UUID, workspace: Workspace, read: Callable[[FlowRun, SyncPrefectClient], PipelineConfig]
) -> int:
    """Do a flow run that others made; returns the exit code.

    Args:
        name: before each line that is said.
        read: the configuration that it is to run; what it raises of `HeadstartError`, `ValueError` and `KeyError` ends
            the flow run as failed.
    """
    from flows.causes import explain
    from flows.runs.relocation import relocate

    with leases.held(workspace, str(flow_run_id), os.environ.get("PREFECT_API_URL", "")):
        try:
            relocate(workspace)
            return _run(name, flow_run_id, workspace, read)
        except Exception as error:
            told = explain(error, workspace)
            if told is None:
                raise
            tell(name, f"failed: {told}", sys.stderr)
            return MISTAKE if isinstance(told, ConfigurationError) else 1


def _run(
    name: str, flow_run_id: UUID, workspace: Workspace, read: Callable[[FlowRun, SyncPrefectClient], PipelineConfig]
) -> int:
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow
    from prefect.states import Failed

    from flows.opening import claim
    from flows.runs.delivery import delivered, leave
    from flows.runs.summary import one_line
    from flows.transfer import transfer

    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(flow_run_id)
        try:
            config = read(flow_run, client)
            claim(workspace, replace=False)
        except (HeadstartError, ValueError, KeyError) as error:
            client.set_flow_run_state(flow_run_id, Failed(message=str(error)), force=True)
            tell(name, f"failed: {error}", sys.stderr)
            return MISTAKE
        parameters = {"config": config.model_dump(mode="json", by_alias=True)}
        client.update_flow_run(flow_run_id, parameters=parameters)
    outcome, is_told = delivered(lambda: run_flow(transfer, flow_run=flow_run, parameters={"config": config}))
    tell(name, one_line(outcome))  # type: ignore[arg-type]
    if not is_told:
        tell(name, "the Prefect server went away: it is told when it is back", sys.stderr)
        leave()
    return 0


def tell(name: str, line: str, to: TextIO | None = None) -> None:
    """Say something of a schedule, with the time; on stdout if nothing else is asked for."""
    print(f"{time.strftime('%H:%M:%S')} {name}: {line}", file=to, flush=True)


def hour_of(moment: datetime) -> str:
    """A moment of these days, as it is told."""
    return moment.astimezone().strftime("%a %H:%M:%S")


def day_of(moment: datetime) -> str:
    """Any moment, as it is told."""
    return moment.astimezone().strftime("%a %d %b %Y %H:%M:%S")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
