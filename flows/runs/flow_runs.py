"""Flow runs whose process cannot speak for itself: what others say of them to Prefect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, TaskRunFilter, TaskRunFilterState
from prefect.client.schemas.filters import TaskRunFilterStateType as OfType
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Crashed

UNFINISHED = [StateType.RUNNING, StateType.PENDING, StateType.SCHEDULED, StateType.PAUSED]


@contextmanager
def client_of(api: str, credentials: str | None) -> Iterator[SyncPrefectClient]:
    """A client of the server at an address, whatever server this process works with otherwise."""
    with SyncPrefectClient(api=api, auth_string=credentials) as client:
        yield client


def close(
    flow_run: str, done: str | None, why: str, api: str, credentials: str | None, is_left: Callable[[], bool]
) -> None:
    """Say of a flow run whose process is no more what it did, or why it did not; one that has ended, that waits for
    its turn or another try, or that the server does not know, is left.

    Args:
        is_left: whether no other process has taken the flow run up meanwhile.
    """
    with client_of(api, credentials) as client, suppress(ObjectNotFound):
        state = client.read_flow_run(UUID(flow_run)).state
        if state and (state.is_final() or (state.is_scheduled() and not done)):
            return
        if is_left():  # asked last: who takes one up says so before its state changes
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
