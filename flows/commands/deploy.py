"""Pipelines that Prefect's workers run: `headstart deploy`, `headstart worker`, and what a worker calls."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from flows.commands.arguments import ConfigFile, Overrides, Replace
from flows.opening import open_pipeline, open_with_server
from tasks.errors import ConfigurationError
from tasks.workspace import Workspace

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from flows.config import PipelineConfig

FLOW_RUN = "PREFECT__FLOW_RUN_ID"
"""Where a worker says which flow run a process is to do."""


def deploy(
    config: ConfigFile,
    pool: Annotated[str, typer.Option(help="Prefect work pool; made if there is none of the name.")],
    type_: Annotated[
        str, typer.Option("--type", metavar="process|docker|kubernetes", help="Of a pool that is made.")
    ] = "process",
    limit: Annotated[int, typer.Option(min=1, help="Runs at the same time, of a pool that is made.")] = 1,
    image: Annotated[str, typer.Option(help="Image of a container, as the Dockerfile builds it.")] = "headstart",
    claim: Annotated[
        str | None, typer.Option(metavar="NAME", help="Kubernetes: claim of the volume that holds the workspace.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=0, help="Kubernetes: GPUs of a run.")] = 0,
    set_: Overrides = [],  # noqa: B006
    replace: Replace = False,
) -> None:
    """Register a pipeline with a Prefect work pool: its workers run it, Prefect's page triggers it.

    Example: headstart deploy configs/digits.yaml --pool gpu
    """
    settings = open_pipeline(config, set_, replace)
    workspace, server = open_with_server()
    from prefect.client.orchestration import get_client

    from flows.console import out
    from flows.schedules import deployments
    from flows.schedules.pools import PoolType, job_variables, make_pool, type_of, worker_needs

    if type_ not in list(PoolType):
        raise ConfigurationError(f"--type {type_}: a pool is one of {', '.join(PoolType)}")
    with get_client(sync_client=True) as client:
        known = type_of(client, pool)
        kind = known or PoolType(type_)
        variables = job_variables(kind, workspace, image, claim, gpus)
        if known is None:
            make_pool(client, pool, kind, limit)
        name = deployments.deploy(client, settings, pool, variables, workspace)
    new = " (new)" if known is None else ""
    out.print(f"deployed as transfer/{name}, in the {kind} pool {pool}{new}", soft_wrap=True)
    page = server.removesuffix("/api")
    needs = worker_needs(kind)
    where = f" where {needs} is installed, too" if needs else ""
    out.print(f"start a worker{where}: headstart worker {pool}; then run it on {page}/deployments", soft_wrap=True)


def worker(
    pool: Annotated[str, typer.Argument(metavar="POOL", help="Prefect work pool.")],
    name: Annotated[str | None, typer.Option(help="What the worker is called on Prefect's page.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Runs at the same time of this worker.")] = None,
) -> None:
    """Work for a Prefect work pool until Ctrl-C: `prefect worker start`, on this workspace's server.

    Example: headstart worker gpu
    """
    open_with_server()
    from prefect.client.orchestration import get_client

    from flows.schedules.pools import check_installed, type_of

    with get_client(sync_client=True) as client:
        kind = type_of(client, pool)
    if kind is None:  # Prefect would make one, of which nobody has said how many runs it takes at the same time
        raise ConfigurationError(f"there is no work pool {pool}: headstart deploy CONFIG --pool {pool} makes it")
    check_installed(kind)
    more = [*(["--name", name] if name else []), *(["--limit", str(limit)] if limit else [])]
    sys.stdout.flush()
    command = [sys.executable, "-P", "-m", "prefect", "worker", "start", "--pool", pool, *more]
    os.execve(sys.executable, command, dict(os.environ))


def execute() -> None:
    """Do the flow run that a Prefect worker was given, with the values of its form."""
    given = os.environ.get(FLOW_RUN)
    if not given:
        raise ConfigurationError(f"`headstart execute` is what a Prefect worker calls: {FLOW_RUN} names no flow run")
    from flows.servers.environment import settle

    workspace = Workspace.find()
    settle(workspace)
    from flows.schedules.scheduled import run_as

    code = run_as("worker", UUID(given), workspace, _from_form)
    sys.exit(code)


def _from_form(flow_run: FlowRun, _: Any) -> PipelineConfig:
    from flows.config import PipelineConfig

    return PipelineConfig.model_validate(flow_run.parameters["config"])
