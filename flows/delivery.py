"""What a flow has done is said to be done, also where Prefect's server is gone that was to record it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

from flows.flow_runs import Undelivered
from flows.server import deliver_events

T = TypeVar("T")


def delivered(flow: Callable[[], T]) -> tuple[T, bool]:
    """Call a flow and hand its events over, which has a time limit; returns its outcome, and whether Prefect's server
    was there to the end."""
    try:
        outcome = flow()
    except Undelivered as error:
        return error.outcome, False
    except BaseException:
        deliver_events()
        raise
    return outcome, deliver_events()


def leave(code: int = 0) -> None:
    """End the process at once: Prefect would go on trying to reach its server for minutes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
