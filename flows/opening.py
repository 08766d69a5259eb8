"""How a command enters its workspace. Nothing heavy is imported before the environment is settled."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.workspace import Workspace

if TYPE_CHECKING:
    from flows.config import PipelineConfig


def open_workspace(reads: bool = False, begins: bool = True) -> Workspace:
    """Find the workspace, settle the environment, and see to its MLflow store: that it answers, is sound and, if it is
    the workspace's own, knows where that stands now; and say of runs that died that they did, and do what
    was answered on Prefect's page.

    Args:
        reads: whether nothing is going to be written, so that the workspace may be another's.
        begins: whether a folder in which there is nothing yet becomes a workspace; else nothing is left there.

    Raises:
        ConfigurationError: the workspace cannot be written.
        ServerError: the store does not answer.
        StorageError: the store is damaged, of another version, or cannot be used.
    """
    from flows.runs.leases import close_dead
    from flows.runs.relocation import put_off, relocate
    from flows.schedules.approvals import apply_answers
    from flows.servers.environment import settle
    from flows.stores.databases import check_records

    workspace = Workspace.find()
    settle(workspace, reads or not (begins or workspace.is_begun))
    check_records(workspace)
    if former := relocate(workspace):
        from flows.console import err

        places = " and ".join(map(str, former))
        err.print(
            f"this workspace was {places} and is {workspace.root} now: runs and models are looked for here",
            soft_wrap=True,
        )
    elif why := put_off(workspace):
        from flows.console import err

        err.print(why, soft_wrap=True)
    close_dead(workspace)
    for line in apply_answers(workspace):
        from flows.console import err

        err.print(line, soft_wrap=True)
    return workspace


def open_with_server(reads: bool = False) -> tuple[Workspace, str]:
    """The same, and see to a Prefect server; returns its address, too."""
    workspace = open_workspace(reads)
    from flows.runs.leases import close_dead
    from flows.servers.server import ensure_server

    server = ensure_server(workspace.root)
    close_dead(workspace)  # in Prefect, too, whose server may not have been there before
    return workspace, server


def open_pipeline(config: Path, overrides: list[str], replace: bool, quiet: bool = False) -> PipelineConfig:
    """Read a pipeline's configuration, find out what can be known to go wrong, and see to it that its dataset may be
    put into ``data/``."""
    from flows.config import PipelineConfig, read_config

    settings = read_config(config, overrides, PipelineConfig)
    check([settings], open_workspace(), replace, quiet)
    return settings


def check(configs: Iterable[PipelineConfig], workspace: Workspace, replace: bool, quiet: bool = False) -> None:
    """Find out what can be known to go wrong with pipelines, and see to it that their dataset may be put into
    ``data/``."""
    from flows.checks import check_pipeline
    from flows.console import shown

    with shown(quiet):
        for config in configs:
            check_pipeline(config, workspace)
    claim(workspace, replace)


def claim(workspace: Workspace, replace: bool) -> None:
    """See to it that ``data/`` and ``data.dvc`` may be replaced, and that Git and DVC leave alone what is to come; say
    where a file of the user's is kept."""
    from flows.console import out
    from tasks.ingest.ignored import leave_out
    from tasks.ingest.pointer import claim as claim_data

    with suppress(OSError):  # said where the dataset is written; a run whose dataset is there already goes on
        leave_out(workspace)
    if kept := claim_data(workspace, replace):
        out.print(f"your data.dvc is kept as {kept.name}", soft_wrap=True)
