"""Who needs the workspace's Prefect server."""

from __future__ import annotations

from flows.runs import leases
from flows.schedules import store
from tasks.errors import ServerError
from tasks.workspace import Workspace


def check_unneeded(workspace: Workspace) -> None:
    """Raise if runs or schedules need the server.

    Raises:
        ServerError: they do; it says which.
    """
    if needed := [*_schedules(workspace), *_runs(workspace)]:
        raise ServerError(
            f"the Prefect server is needed by {', '.join(needed)}: end them first; with --force it is stopped all the "
            "same, runs go on without a record in Prefect, and a schedule starts it again"
        )


def _schedules(workspace: Workspace) -> list[str]:
    known = {name: store.scheduler_of(name, workspace) for name in store.names(workspace)}
    return [f"the schedule of {name} (process {owner.pid} on {owner.host})" for name, owner in known.items() if owner]


def _runs(workspace: Workspace) -> list[str]:
    found = leases.live(workspace)
    return [f"a run (process {each.owner.pid} of {each.owner.who} on {each.owner.host})" for each in found]
