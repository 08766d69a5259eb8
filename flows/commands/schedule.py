"""The `headstart schedule` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import flows
from flows.commands.arguments import Overrides, Replace
from flows.opening import check, open_workspace
from tasks.errors import ConfigurationError, ServerError
from tasks.workspace import Workspace

if TYPE_CHECKING:
    from flows.config import PipelineConfig
    from flows.schedules.store import Schedule
    from flows.schedules.timetable import Timetable


DECADE = 10 * 366 * 24 * 3600
"""The longest interval, in seconds: beyond the last year of a calendar, there is no next run."""

ALONE = ("list_", "pause", "resume", "remove")
"""Parameters beside which no run is started."""


class Overlap(StrEnum):
    """See `flows.schedules.store.Schedule`."""

    skip = "skip"
    queue = "queue"
    cancel = "cancel"


class Missed(StrEnum):
    """See `flows.schedules.store.Schedule`."""

    latest = "latest"
    all = "all"
    none = "none"


def schedule(
    ctx: typer.Context,
    configs: Annotated[
        list[Path] | None, typer.Argument(metavar="CONFIG...", help="Pipelines (YAML); without any, all on the list.")
    ] = None,
    cron: Annotated[str | None, typer.Option(help="Cron expression, e.g. '0 3 * * *': every night at three.")] = None,
    interval: Annotated[
        int | None, typer.Option(min=1, max=DECADE, metavar="SECONDS", help="Seconds between two runs.")
    ] = None,
    rrule: Annotated[
        str | None, typer.Option(help="Rule of a calendar (RFC 5545), e.g. 'FREQ=DAILY;BYHOUR=3'.")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(help="Time zone of --cron and --rrule, as Europe/Berlin; this machine's if not given.")
    ] = None,
    overlap: Annotated[
        Overlap, typer.Option(help="What comes due during a run: skip it, queue one, or cancel that run.")
    ] = Overlap.skip,
    missed: Annotated[
        Missed, typer.Option(help="What was missed while nothing watched: one run for the latest, all, or none.")
    ] = Missed.latest,
    retries: Annotated[int, typer.Option(min=0, help="How often a run that failed is tried again.")] = 0,
    backoff: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Until the first try again; twice as long until the next.")
    ] = 60,
    watch: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="Run when the data has changed: look at it every so often; 0: no."),
    ] = 0,
    timeout: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="After which a run is ended; 0: it may take its time.")
    ] = 0,
    limit: Annotated[int, typer.Option(min=1, help="Runs at the same time, of all pipelines.")] = 1,
    set_: Overrides = [],  # noqa: B006
    replace: Replace = False,
    list_: Annotated[bool, typer.Option("--list", help="Show all schedules.")] = False,
    pause: Annotated[str, typer.Option(metavar="NAME", help="Have one wait; what is due meanwhile is left out.")] = "",
    resume: Annotated[str, typer.Option(metavar="NAME", help="Have it go on.")] = "",
    remove: Annotated[str, typer.Option(metavar="NAME", help="Forget one; a run at work is let finish.")] = "",
) -> None:
    """Run pipelines on a schedule, until Ctrl-C; each run reads its configuration anew.

    Example: headstart schedule configs/digits.yaml --cron "0 3 * * *"
    """
    if list_ or pause or resume or remove:
        _check_alone(ctx, ALONE, "--list, --pause, --resume and --remove start nothing")
        _manage(pause, resume, remove)
        return
    from flows.console import out
    from flows.schedules import store
    from flows.schedules.store import Schedule
    from flows.schedules.timetable import read_timetable

    if configs or cron or interval or rrule or watch:
        timetable = read_timetable(cron, interval, rrule, timezone, watches=watch > 0)
        policies = (overlap.value, missed.value, retries, backoff, timeout, watch)
        asked = _read(configs or [], set_, timetable)
        workspace = open_workspace()
        places = {name: store.place_of(path, workspace) for name, (path, _) in asked.items()}
        for name in asked:
            store.check_free(name, workspace)
        gone = {name: store.replaced(name, place, workspace) for name, place in places.items()}
        check((config for _, config in asked.values()), workspace, replace)
        for name, place in places.items():
            store.keep(Schedule(name, place, timetable, tuple(set_), *policies), workspace)
            if gone[name]:
                out.print(f"{name}: in place of the schedule by {gone[name]}, which is no longer there", soft_wrap=True)
        chosen = list(asked)
    else:
        _check_alone(ctx, ("limit",), "without a pipeline's YAML file, schedules go on as they were kept")
        workspace = open_workspace()
        chosen = store.names(workspace)
        for name in chosen:
            store.check_free(name, workspace)
    if not chosen:
        raise ConfigurationError(
            "nothing is on schedule here: name a pipeline, as in `headstart schedule CONFIG --cron '0 3 * * *'`"
        )
    _become_scheduler([store.read(name, workspace) for name in chosen], workspace, limit)


def _check_alone(ctx: typer.Context, fitting: Sequence[str], why: str) -> None:
    """Refuse what was given beside the parameters that fit, and would be ignored."""
    idle = []
    for each in ctx.command.params:
        source = ctx.get_parameter_source(each.name or "")  # an enumeration of Click's, of which Typer may have its own
        if source and source.name == "COMMANDLINE" and each.name not in fitting:
            idle.append(each.opts[0] if each.param_type_name == "option" else "CONFIG")
    if idle:
        raise ConfigurationError(f"{why}: leave {' and '.join(idle)} out")


def _read(
    configs: Sequence[Path], overrides: list[str], timetable: Timetable
) -> dict[str, tuple[Path, PipelineConfig]]:
    """The pipelines by their names."""
    from flows.config import PipelineConfig, read_config

    if not configs:
        when = str(timetable) or "when its data changes"
        raise ConfigurationError(f"headstart schedule needs a pipeline to run ({when}): name its YAML file")
    found: dict[str, tuple[Path, PipelineConfig]] = {}
    for path in configs:
        config = read_config(path, overrides, PipelineConfig)
        if config.name in found:
            other = found[config.name][0]
            raise ConfigurationError(f"{path} and {other} have the same name {config.name!r}: change one")
        found[config.name] = path, config
    return found


def _become_scheduler(chosen: list[Schedule], workspace: Workspace, limit: int) -> None:
    """Go on as `flows.schedules.scheduler`, without all that was imported to get here: it runs for months."""
    from flows.console import out
    from flows.schedules import store
    from flows.schedules.scheduled import IMPATIENT
    from flows.servers.server import ensure_server

    server = ensure_server(workspace.root)
    for each in chosen:
        waits = store.is_paused(each.name, workspace)
        how = f"; paused until `headstart schedule --resume {each.name}`" if waits else ""
        out.print(f"{each.name}: {each.in_words}{how}", soft_wrap=True)
    out.print(f"runs show at {server.removesuffix('/api')}; Ctrl-C ends it", soft_wrap=True)
    sys.stdout.flush()
    names = [each.name for each in chosen]
    command = [sys.executable, "-P", "-m", f"{flows.__name__}.schedules.scheduler", str(limit), *names]
    os.execve(sys.executable, command, os.environ | IMPATIENT)


def _manage(pause: str, resume: str, remove: str) -> None:
    """What touches files only, and so takes no time and needs no server; one that runs forgets what was removed."""
    from flows.console import show_table
    from flows.schedules import store

    workspace = Workspace.find()
    for name, change in ((pause, store.pause), (resume, store.resume), (remove, store.remove)):
        if name:
            change(name, workspace)
    if remove:
        _forget_removed(workspace)
    show_table(_table(workspace), "nothing is on schedule here")


def _forget_removed(workspace: Workspace) -> None:
    """Have the Prefect server forget schedules that are no more, with the runs that wait there; where none answers, the
    next scheduler sees to it."""
    from flows.servers.server import ensure_server, server_status

    if not (os.environ.get("PREFECT_API_URL") or server_status(workspace.root)):
        return
    with suppress(ServerError):
        ensure_server(workspace.root)
        from prefect.client.orchestration import get_client

        from flows.schedules import deployments, store

        with suppress(*deployments.GONE), get_client(sync_client=True) as client:
            deployments.forget_removed(client, store.names(workspace), workspace)


def _table(workspace: Workspace):  # type: ignore[no-untyped-def]
    from flows.console import plain_table
    from flows.schedules import store

    table = plain_table("name", "when", "state", "next", "overlap", "missed", "configuration")
    for name in store.names(workspace):
        each, state = store.read(name, workspace), store.state(name, workspace)
        scheduler = store.scheduler_of(name, workspace)
        how = "paused" if store.is_paused(name, workspace) else "on" if scheduler else "not running"
        where = f"{how}, process {scheduler.pid} on {scheduler.host}" if scheduler else how
        due = state.next if scheduler and how == "on" else ""
        table.add_row(name, each.when, where, due, each.overlap, each.missed, each.config)
    return table
