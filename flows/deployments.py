"""Pipelines on a schedule."""

from __future__ import annotations

from datetime import timedelta

from prefect.flows import EntrypointType

from flows.config import PipelineConfig
from flows.transfer import transfer


def serve_pipeline(config: PipelineConfig, cron: str | None = None, interval: timedelta | None = None) -> None:
    """Register a deployment of the `transfer` flow and run it when it is due, until interrupted.

    Each run is a process of its own; one runs at a time, and one that comes due meanwhile waits.
    """
    transfer.serve(
        name=config.name,
        parameters={"config": config.model_dump(mode="json", by_alias=True)},
        cron=cron,
        interval=interval,
        limit=1,
        print_starting_message=False,
        entrypoint_type=EntrypointType.MODULE_PATH,
        tags=["headstart"],
    )
