"""Pipelines on a schedule."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect.flows import EntrypointType
from prefect.schedules import Cron, Interval, Schedule
from tzlocal import get_localzone_name

from flows.config import PipelineConfig
from flows.transfer import transfer
from tasks.errors import ConfigurationError

SHOWN = 3


def read_schedule(cron: str | None, interval: int | None, timezone: str | None) -> tuple[Schedule, str]:
    """When a pipeline is due, and that in words: with the next times, where they are times of day.

    Args:
        cron: five fields, as ``0 3 * * *``.
        interval: seconds, in place of `cron`.
        timezone: IANA name of the zone in which `cron` is meant; this machine's own if not given.

    Raises:
        ConfigurationError: not exactly one of `cron` and `interval`, or one that never comes; no such zone.
    """
    if interval is not None and cron is None:
        return Interval(timedelta(seconds=interval)), f"every {interval} s"
    if cron is None or interval is not None:
        raise ConfigurationError("headstart serve needs either --cron or --interval, for example --cron '0 3 * * *'")
    zone = timezone or get_localzone_name() or "UTC"
    words = f"cron {cron}, next {', '.join(_next_times(cron, zone))} ({zone})"
    return Cron(cron, timezone=zone), words


def _next_times(cron: str, zone: str) -> list[str]:
    from prefect.server.schemas.schedules import CronSchedule

    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # such as the folder of a continent
        raise ConfigurationError(f"--timezone {zone}: no such zone; give one as Europe/Berlin") from error
    try:
        times = asyncio.run(CronSchedule(cron=cron, timezone=zone).get_dates(SHOWN))
    except ValueError:  # croniter's, and pydantic's
        times = []
    if not times:
        raise ConfigurationError(
            f"--cron '{cron}' names no time: it takes minute (0-59), hour (0-23), day of the month (1-31), month "
            "(1-12) and day of the week (0-7), as in '0 3 * * *': every night at three"
        )
    return [time.strftime("%a %d %b %Y %H:%M") for time in times]


def serve_pipeline(config: PipelineConfig, schedule: Schedule) -> None:
    """Register a deployment of the `transfer` flow and run it when it is due, until interrupted.

    Each run is a process of its own; one runs at a time, and one that comes due meanwhile waits.
    """
    transfer.serve(
        name=config.name,
        parameters={"config": config.model_dump(mode="json", by_alias=True)},
        schedule=schedule,
        limit=1,
        print_starting_message=False,
        entrypoint_type=EntrypointType.MODULE_PATH,
        tags=["headstart"],
    )
