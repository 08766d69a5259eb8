"""Flow runs whose process cannot speak for itself: what others say of them to Prefect."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, TaskRunFilter, TaskRunFilterState
from prefect.client.schemas.filters import TaskRunFilterStateType as OfType
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import Abort, ObjectNotFound
from prefect.states import Completed, Crashed

from flows.leases import Lease, held, is_own, write
from flows.server import answers
from tasks.owner import Owner
from tasks.workspace import Workspace

UNFINISHED = [StateType.RUNNING, StateType.PENDING, StateType.SCHEDULED, StateType.PAUSED]


@contextmanager
def leased(workspace: Workspace) -> Iterator[Callable[[str], None]]:
    """Hold the lease of the flow run that this is called in; see `flows.leases.held`. Outside of one there is none."""
    flow_run = runtime.flow_run.id
    if flow_run is None:
        yield lambda _: None
        return
    with held(workspace, str(flow_run), os.environ.get("PREFECT_API_URL", "")) as tell_run:
        yield tell_run


class Undelivered(Abort):
    """A flow has done its work, and the Prefect server that is to hear of it is gone.

    As an `Abort` it ends the flow without a word to that server, which Prefect would try to reach for a minute.
    """

    def __init__(self, outcome: Any) -> None:
        super().__init__("done, but the Prefect server does not answer")
        self.outcome = outcome


def check_delivery(outcome: Any, done: str, workspace: Workspace) -> None:
    """Raise where the server is gone that this flow run is recorded on; the next command tells it that all is done.

    Raises:
        Undelivered: with the outcome.
    """
    api, flow_run = os.environ.get("PREFECT_API_URL", ""), runtime.flow_run.id
    if flow_run and not answers(api):
        write(Lease(Owner.here(), str(flow_run), api, done=done, own=is_own(api, workspace)), workspace)
        raise Undelivered(outcome)


@contextmanager
def client_of(api: str, credentials: str | None) -> Iterator[SyncPrefectClient]:
    """A client of the server at an address, whatever server this process works with otherwise."""
    with SyncPrefectClient(api=api, auth_string=credentials) as client:
        yield client


def close(flow_run: str, done: str | None, why: str, api: str, credentials: str | None) -> None:
    """Say of a flow run whose process is no more what it did, or why it did not; one that has ended, or that the server
    does not know, is left."""
    with client_of(api, credentials) as client, suppress(ObjectNotFound):
        state = client.read_flow_run(UUID(flow_run)).state
        if state is None or not state.is_final():
            finish(client, UUID(flow_run), Completed(message=done) if done else Crashed(message=why))


def finish(client: SyncPrefectClient, flow_run: UUID, state: State) -> None:
    """Put a flow run, and what it left unfinished of its tasks, into a state that ends them."""
    left = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run])),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=OfType(any_=UNFINISHED))),
    )
    for task in left:
        client.set_task_run_state(task.id, state, force=True)
    client.set_flow_run_state(flow_run, state, force=True)
