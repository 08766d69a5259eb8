"""What a flow has done is said to be done, also where Prefect's server is gone that was to record it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

from flows.runs.leased import Undelivered
from flows.servers.server import deliver_events
from flows.servers.signals import heard_again

T = TypeVar("T")


def delivered(flow: Callable[[], T]) -> tuple[T, bool]:
    """Call a flow and hand its events over, which has a time limit; returns its outcome, and whether Prefect's server
    was there to the end."""
    try:
        with heard_again():
            outcome = flow()
    except Undelivered as error:
        return error.outcome, False
    except BaseException:
        deliver_events()
        raise
    return outcome, deliver_events()


def carry_out(flow: Callable[[], T], server: str, show: Callable[[T], None], quiet: bool = False) -> None:
    """What a command does with a flow: call it, show its outcome, and end."""
    from flows.console import shown

    with shown(quiet):
        outcome, is_told = delivered(flow)
    show(outcome)
    if not is_told:
        end_untold(server)


def end_untold(server: str) -> NoReturn:
    """Say that a run which is done could not be told to Prefect's server, and end well."""
    from flows.console import err

    page = server.removesuffix("/api")
    told = f"the Prefect server at {page} went away: it hears of this run with the next command"
    err.print(told, soft_wrap=True)
    leave()


def leave(code: int = 0) -> NoReturn:
    """End the process at once: Prefect would go on trying to reach its server for minutes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
