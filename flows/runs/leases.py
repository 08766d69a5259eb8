"""Which runs are at work in a workspace, and the end of those that died: ``python -m flows.runs.leases`` sees to them.

A run holds a lease while it lives: ``mlruns/leases/FLOW_RUN.json`` says whose it is, and the file's time is its last
sign of life. A process of this machine is asked for directly; one of another, which shares the workspace by a network
drive, counts as dead after `STALE` seconds of silence, by the clock of the drive. Where several workspaces share one
MLflow store, the run there has the same as tags, for those who see no file: by their clocks, so after an hour only.

What ended by itself has said so and left no lease. So what is found dead was killed, or its machine went down.
Importing this module imports neither Prefect nor MLflow, and where nothing died, nor does a look at the leases.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flows.servers.environment import prefect_home
from tasks.owner import Owner
from tasks.workspace import Workspace, write_whole

if TYPE_CHECKING:
    from mlflow import MlflowClient

BEAT, STALE = 10.0, 120.0
"""Seconds between two signs of life, and without one until a process of another machine counts as dead."""
TOLD, SILENT = 60.0, 3600.0
"""The same in a shared MLflow store, where clocks of several machines are compared."""

OWNER, ALIVE, ENDED = "headstart.owner", "headstart.alive", "headstart.ended"
"""Tags of a run: the process, its last sign of life in seconds since the epoch, and why others closed it."""


@dataclass(frozen=True)
class Lease:
    """A run at work: its process, its flow run and the server that it is recorded on, the schedule that it is of, and
    its run in MLflow, once there is one. `done` is what a run achieved that could not say so to Prefect; `own` whether
    the server is the workspace's, which files of earlier versions do not say."""

    owner: Owner
    flow_run: str
    api: str
    schedule: str | None = None
    run: str | None = None
    done: str | None = None
    own: bool | None = None

    @property
    def why_dead(self) -> str:
        """What is said of it where it is found dead."""
        return f"process {self.owner.pid} on {self.owner.host} is no more: it was killed, or the machine went down"


def folder_of(workspace: Workspace) -> Path:
    """Where the leases of a workspace lie: beside those of the user where the workspace may only be read."""
    return prefect_home(workspace.root).parent / "leases"


def leases(workspace: Workspace) -> list[Lease]:
    """All leases, also of those who died."""
    found = [_read(path) for path in sorted(folder_of(workspace).glob("*.json"))]
    return [lease for lease in found if lease]


def live(workspace: Workspace) -> list[Lease]:
    """Runs at work."""
    return [lease for lease in leases(workspace) if not is_dead(lease, workspace)]


def undelivered(workspace: Workspace) -> set[str]:
    """Flow runs that did their work, of which their Prefect server does not know yet."""
    return {lease.flow_run for lease in leases(workspace) if lease.done}


def is_dead(lease: Lease, workspace: Workspace) -> bool:
    """Whether the process of a lease is no more, as far as can be known here."""
    if not lease.owner.is_elsewhere:
        return lease.owner.is_dead
    # The clock of whoever keeps the folder, which need not be this machine.
    with suppress(OSError), tempfile.NamedTemporaryFile(dir=folder_of(workspace)) as now:
        return os.stat(now.name).st_mtime - _path(lease, workspace).stat().st_mtime > STALE
    return False


def write(lease: Lease, workspace: Workspace) -> None:
    """Put a lease down, in place of one of the same flow run."""
    path = _path(lease, workspace)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(asdict(lease)))


def end(lease: Lease, workspace: Workspace) -> None:
    """Take a lease away."""
    _path(lease, workspace).unlink(missing_ok=True)


@contextmanager
def held(workspace: Workspace, flow_run: str, api: str) -> Iterator[Callable[[str], None]]:
    """Hold the lease of a flow run for as long as the block takes.

    Yields what is to be told the id of its MLflow run.
    """
    mine = Lease(Owner.here(), flow_run, api, own=is_own(api, workspace))
    if before := _read(_path(mine, workspace)):
        mine = replace(mine, schedule=before.schedule)
    write(mine, workspace)
    done, store = threading.Event(), _Store(workspace)
    beating = threading.Thread(target=_beat, args=(_path(mine, workspace), store, done), daemon=True)
    beating.start()

    def tell_run(run: str) -> None:
        store.run = run
        write(replace(mine, run=run), workspace)
        store.beat()

    try:
        yield tell_run
    finally:
        done.set()
        beating.join(BEAT)
        end(mine, workspace)


def close_dead(workspace: Workspace) -> list[Lease]:
    """Say of each run that died that it did, in MLflow and, where its server answers, in Prefect; returns those that
    are closed in both.

    A lease stays until then, so that whichever command comes next goes on with it.
    """
    if not os.access(folder_of(workspace), os.W_OK):
        return []
    closed = []
    for lease in leases(workspace):
        if is_dead(lease, workspace):
            try:
                if _close(lease, workspace):
                    if _is_left(lease, workspace):
                        end(lease, workspace)
                    closed.append(lease)
            except Exception as error:  # a server that is gone, say: another command will
                logging.getLogger("headstart").warning("a run that died is not closed yet: %s", error, exc_info=error)
    return closed


def close_silent(client: MlflowClient) -> None:
    """Say of runs in a store of several workspaces that they died, where none of their signs came for an hour."""
    experiments = [each.experiment_id for each in client.search_experiments()]
    running = client.search_runs(experiments, f"attributes.status = 'RUNNING' and tags.`{ALIVE}` != ''")
    for run in running:
        if owner := _silent(run.data.tags):
            _kill_in_mlflow(client, run.info.run_id, Lease(owner, "", "").why_dead)


def _silent(tags: Mapping[str, str]) -> Owner | None:
    """Whose run has died, by its tags; None where it lives, or nobody knows, since somebody edited them by hand."""
    try:
        owner = Owner(**json.loads(tags[OWNER]))
        died = time.time() - float(tags[ALIVE]) > SILENT if owner.is_elsewhere else owner.is_dead
    except (KeyError, TypeError, ValueError):
        return None
    return owner if died else None


class _Store:
    """The run in a store that others share, who see no file of this workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.last = workspace, -TOLD
        self.run: str | None = None

    def beat(self) -> None:
        if self.run is None or self.workspace.own_store or time.monotonic() - self.last < TOLD:
            return
        from mlflow.entities import RunTag

        from tasks.register.store import connect

        tags = {OWNER: json.dumps(asdict(Owner.here())), ALIVE: f"{time.time():.0f}"}
        connect(self.workspace).log_batch(self.run, tags=[RunTag(key, value) for key, value in tags.items()])
        self.last = time.monotonic()


def _beat(path: Path, store: _Store, done: threading.Event) -> None:
    while not done.wait(BEAT):
        with suppress(OSError):
            os.utime(path)
        with suppress(Exception):  # whatever it is, the next sign may get through
            store.beat()


def _path(lease: Lease, workspace: Workspace) -> Path:
    return folder_of(workspace) / f"{lease.flow_run}.json"


def _read(path: Path) -> Lease | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Lease(**kept | {"owner": Owner(**kept["owner"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _close(lease: Lease, workspace: Workspace) -> bool:
    if lease.run:
        from tasks.register.store import connect

        _kill_in_mlflow(connect(workspace), lease.run, lease.why_dead)
        if _is_left(lease, workspace):
            write(replace(lease, run=None), workspace)
    access = access_to(lease.api, lease.own, workspace)
    if access is None:
        return False
    from flows.runs.flow_runs import close

    close(lease.flow_run, lease.done, lease.why_dead, *access, lambda: _is_left(lease, workspace))
    return True


def _is_left(lease: Lease, workspace: Workspace) -> bool:
    """Whether the flow run is still that of the process that died: another one may try it again."""
    now = _read(_path(lease, workspace))
    return now is not None and now.owner == lease.owner


def _kill_in_mlflow(client: MlflowClient, run: str, why: str) -> None:
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):  # deleted meanwhile
        found = client.get_run(run)
        inside = f"attributes.status = 'RUNNING' and tags.`mlflow.parentRunId` = '{run}'"
        for each in (found, *client.search_runs([found.info.experiment_id], inside)):
            if each.info.status == "RUNNING":
                client.set_tag(each.info.run_id, ENDED, why)
                client.set_terminated(each.info.run_id, "KILLED")


def is_own(api: str, workspace: Workspace) -> bool:
    """Whether what is recorded at an address, or without one, is recorded by the workspace's own server."""
    from flows.servers import access, server

    return not api or access.is_chosen(api) or server.is_own(api, workspace.root)


def access_to(api: str, own: bool | None, workspace: Workspace) -> tuple[str, str | None] | None:
    """Address and credentials of the server that a run is recorded on; None where it does not answer, or is another
    than the one that this process would work with: that one knows nothing of the run.

    Args:
        own: whether it is the workspace's own server, whose port may have changed; None: as its address says.
    """
    from flows.servers import access
    from flows.servers.server import answers, server_status

    chosen = os.environ.get(access.MARKS["PREFECT_API_URL"])
    exported = os.environ.get("PREFECT_API_URL")
    if exported and exported != chosen:
        mine = api == exported and answers(exported)
        return (exported, os.environ.get("PREFECT_API_AUTH_STRING")) if mine else None
    if not (own if own is not None else _is_of_this_machine(api)):
        return None
    server = server_status(workspace.root)
    return (server.url, access.credentials(access.secret_of(prefect_home(workspace.root)))) if server else None


def _is_of_this_machine(api: str) -> bool:
    from flows.servers.access import NAMES

    return not api or urlsplit(api).hostname in {name.strip("[]") for name in NAMES}


def main() -> None:
    """Close what died in the workspace."""
    from flows.servers.environment import settle

    workspace = Workspace.find()
    settle(workspace)
    close_dead(workspace)


if __name__ == "__main__":
    main()
