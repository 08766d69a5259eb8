"""Flow runs whose process cannot speak for itself: what others say of them to Prefect."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, TaskRunFilter, TaskRunFilterState
from prefect.client.schemas.filters import TaskRunFilterStateType as OfType
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from flows.leases import held
from tasks.workspace import Workspace

UNFINISHED = [StateType.RUNNING, StateType.PENDING, StateType.SCHEDULED, StateType.PAUSED]


@contextmanager
def leased(workspace: Workspace) -> Iterator[Callable[[str], None]]:
    """Hold the lease of the flow run that this is called in; see `flows.leases.held`."""
    with held(workspace, str(runtime.flow_run.id), os.environ.get("PREFECT_API_URL", "")) as tell_run:
        yield tell_run


@contextmanager
def client_of(api: str, credentials: str | None) -> Iterator[SyncPrefectClient]:
    """A client of the server at an address, whatever server this process works with otherwise."""
    with SyncPrefectClient(api=api, auth_string=credentials) as client:
        yield client


def crash(flow_run: str, why: str, api: str, credentials: str | None) -> None:
    """Say of a flow run that its process is no more; one that has ended, or that the server does not know, is left."""
    with client_of(api, credentials) as client, suppress(ObjectNotFound):
        state = client.read_flow_run(UUID(flow_run)).state
        if state is None or not state.is_final():
            finish(client, UUID(flow_run), Crashed(message=why))


def finish(client: SyncPrefectClient, flow_run: UUID, state: State) -> None:
    """Put a flow run, and what it left unfinished of its tasks, into a state that ends them."""
    left = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run])),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=OfType(any_=UNFINISHED))),
    )
    for task in left:
        client.set_task_run_state(task.id, state, force=True)
    client.set_flow_run_state(flow_run, state, force=True)
