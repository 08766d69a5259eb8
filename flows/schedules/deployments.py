"""Schedules as Prefect sees them: a deployment each, whose flow runs its page shows, starts and cancels.

The times are ours: Prefect's own schedules go on making runs while nobody works them off, and its runner works off all
of them later, with the parameters of back then. A flow run is made when it is due, by whoever runs it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import FlowRunResponse
from prefect.exceptions import ObjectNotFound, PrefectException, PrefectHTTPStatusError
from prefect.states import AwaitingRetry, Cancelled, Pending, Scheduled
from prefect.utilities.callables import parameter_schema

import flows
from flows.config import PipelineConfig, read_config
from flows.runs.flow_runs import finish
from flows.schedules.store import Schedule, folder_of, names
from tasks.errors import ConfigurationError, HeadstartError
from tasks.fingerprint import fingerprint
from tasks.machine import user_name
from tasks.wording import REASON, brief
from tasks.workspace import Workspace, write_whole

FLOW = "transfer"
GONE = (HTTPError, PrefectException)
"""What Prefect's client raises where the server does not do what it is asked."""

AWAITING_RETRY = AwaitingRetry().name

DUE = "scheduled"
"""Tag of a flow run that was due; others were started on Prefect's page."""


def values_of(schedule: Schedule, workspace: Workspace) -> dict[str, Any]:
    """What Prefect's page offers; nothing while the configuration is wrong, which its runs say."""
    try:
        config = read_config(workspace.root / schedule.config, schedule.overrides, PipelineConfig)
    except HeadstartError:
        return {}
    return {"config": config.model_dump(mode="json", by_alias=True)}


def call_off(client: SyncPrefectClient, flow_run: UUID, why: str) -> None:
    """Cancel a run, unless it is over or gone."""
    run = read_run(client, flow_run)
    if run and run.state and not run.state.is_final():
        finish(client, flow_run, Cancelled(message=f"Ended: {why}."))


def register_all(client: SyncPrefectClient, chosen: Iterable[Schedule], workspace: Workspace) -> dict[str, UUID]:
    """`register` these schedules, and `forget` those that are removed; returns the deployments by name."""
    made = {each.name: register(client, each, values_of(each, workspace), workspace) for each in chosen}
    kept = names(workspace)
    if made.keys() <= set(kept):  # else one was removed this moment, or none can be reached
        forget_removed(client, kept, workspace)
    return made


def register(client: SyncPrefectClient, schedule: Schedule, values: dict[str, Any], workspace: Workspace) -> UUID:
    """Make a schedule's deployment, or bring it up to date; `values` is what Prefect's page offers for a run.

    Prefect knows a deployment by its name only, and a server may be several people's. So the name says whose it is.
    """
    name = f"{schedule.name}-{user_name()}-{identity(workspace)}"
    policies = f"Overlap: {schedule.overlap}. Missed: {schedule.missed}."
    return _made(
        client,
        name,
        values,
        description=f"{schedule.when}, by `headstart schedule` in {workspace.root}. {policies} A run reads "
        f"{schedule.config} anew, unless it is started here with other values.",
        tags=["headstart", schedule.name],
        enforce_parameter_schema=False,
    )


def deploy(
    client: SyncPrefectClient, config: PipelineConfig, pool: str, variables: dict[str, Any], workspace: Workspace
) -> str:
    """Register a pipeline with a work pool, or bring its deployment up to date; returns the deployment's name.

    Args:
        variables: for the pool's job template.

    Raises:
        ConfigurationError: the variables do not fit the template.
    """
    name = f"{config.name}-{pool}-{user_name()}-{identity(workspace)}"
    try:
        _made(
            client,
            name,
            {"config": config.model_dump(mode="json", by_alias=True)},
            description=f"By `headstart deploy` in {workspace.root}, for the workers of {pool}. A run takes the values "
            "of this form; deploy again to change what it offers.",
            tags=["headstart", config.name],
            enforce_parameter_schema=True,
            work_pool_name=pool,
            job_variables=variables,
        )
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in (409, 422):  # which are about the variables
            raise
        raise ConfigurationError(
            f"the job template of the pool {pool} does not take what headstart fills in ({', '.join(variables)}): "
            f"{brief(_said(error), REASON)}; change the pool's template on Prefect's page, or name another pool"
        ) from error
    return name


def _said(error: PrefectHTTPStatusError) -> str:
    """What Prefect's server has against a request."""
    try:
        return str(error.response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return error.response.text


def _made(client: SyncPrefectClient, name: str, values: dict[str, Any], **more: Any) -> UUID:
    """A deployment of the pipeline's flow, whose form on Prefect's page offers `values`."""
    return client.create_deployment(
        flow_id=client.create_flow_from_name(FLOW),
        name=name,
        parameters=values,
        entrypoint=f"{flows.__name__}.transfer.transfer",
        parameter_openapi_schema=parameter_schema(_form).model_dump_for_openapi(),
        paused=False,
        **more,
    )


def make_run(client: SyncPrefectClient, deployment: UUID, occasion: str) -> FlowRun:
    """A flow run for an occasion on which a schedule is due: one, however often this is called."""
    return client.create_flow_run_from_deployment(
        deployment, state=Scheduled(), idempotency_key=f"{deployment} {occasion}", tags=[DUE]
    )


def waiting(client: SyncPrefectClient, deployments: list[UUID], now: datetime) -> list[FlowRunResponse]:
    """Flow runs that may begin, those made first before others: ours, and those of Prefect's page."""
    found = client.get_scheduled_flow_runs_for_deployments(deployments, scheduled_before=now)
    return sorted(found, key=lambda run: run.expected_start_time or now)


def take(client: SyncPrefectClient, flow_run: UUID) -> None:
    """Say of a flow run that somebody begins it."""
    client.set_flow_run_state(flow_run, Pending())


def try_again(client: SyncPrefectClient, flow_run: UUID, at: datetime) -> None:
    """Have a flow run that failed wait for another try."""
    client.set_flow_run_state(flow_run, AwaitingRetry(scheduled_time=at), force=True)


def tries(client: SyncPrefectClient, flow_run: UUID) -> int:
    """How often a flow run has been begun: once, and again after each wait of `try_again`. Prefect's own count leaves
    out what ended before it was at work."""
    return 1 + sum(state.name == AWAITING_RETRY for state in client.read_flow_run_states(flow_run))


def to_be_cancelled(client: SyncPrefectClient, flow_runs: list[UUID]) -> set[UUID]:
    """Those that somebody cancelled on Prefect's page."""
    runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=flow_runs)))
    return {run.id for run in runs if run.state_type in (StateType.CANCELLING, StateType.CANCELLED)}


def forget(client: SyncPrefectClient, deployment: UUID) -> None:
    """Remove a deployment, and what waits for its turn there; flow runs that have begun stay."""
    client.delete_deployment(deployment)


def forget_removed(client: SyncPrefectClient, kept: Collection[str], workspace: Workspace) -> None:
    """`forget` the deployments of this workspace and user that are of none of these schedules any more."""
    ending = f"-{user_name()}-{identity(workspace)}"
    alike = DeploymentFilter(name=DeploymentFilterName(like_=ending), tags=DeploymentFilterTags(all_=["headstart"]))
    for deployment in client.read_deployments(deployment_filter=alike):
        name = deployment.name.removesuffix(ending)
        of_schedule = name in deployment.tags and deployment.work_pool_name is None  # as `register` makes them
        if of_schedule and name not in kept:
            with suppress(ObjectNotFound):
                forget(client, deployment.id)


def read_run(client: SyncPrefectClient, flow_run: UUID) -> FlowRun | None:
    """A flow run; None where somebody has deleted it."""
    try:
        return client.read_flow_run(flow_run)
    except ObjectNotFound:
        return None


def is_changed(client: SyncPrefectClient, flow_run: FlowRun) -> bool:
    """Whether somebody who started a run on Prefect's page gave it other values than it offered."""
    if DUE in flow_run.tags or flow_run.deployment_id is None:
        return False
    return flow_run.parameters != client.read_deployment(flow_run.deployment_id).parameters


def _form(config: PipelineConfig) -> None:
    """What Prefect's page asks for, as `flows.transfer.transfer` does, which takes seconds to import."""


def identity(workspace: Workspace) -> str:
    """Tells a workspace from all others, copies of it included."""
    path, former = (folder_of(workspace) / name for name in (".id", "id"))
    if former.is_file() and not path.exists():  # a name that a pipeline may have
        former.replace(path)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, uuid4().hex)
    return fingerprint(path.read_text(), str(workspace.root))[:8]
