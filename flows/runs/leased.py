"""What a flow run says of itself: that it is at work, and that its work is done where Prefect's server is gone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prefect import runtime
from prefect.exceptions import Abort

from flows.runs.leases import Lease, held, is_own, write
from flows.servers.server import answers
from tasks.owner import Owner
from tasks.workspace import Workspace


@contextmanager
def leased(workspace: Workspace) -> Iterator[Callable[[str], None]]:
    """Hold the lease of the flow run that this is called in; see `flows.runs.leases.held`. Outside of one there is
    none."""
    flow_run = runtime.flow_run.id
    if flow_run is None:
        yield lambda _: None
        return
    with held(workspace, str(flow_run), os.environ.get("PREFECT_API_URL", "")) as tell_run:
        yield tell_run


class Undelivered(Abort):
    """A flow has done its work, and the Prefect server that is to hear of it is gone.

    As an `Abort` it ends the flow without a word to that server, which Prefect would try to reach for a minute.
    """

    def __init__(self, outcome: Any) -> None:
        super().__init__("done, but the Prefect server does not answer")
        self.outcome = outcome


def check_delivery(outcome: Any, done: str, workspace: Workspace) -> None:
    """Raise where the server is gone that this flow run is recorded on; the next command tells it that all is done.

    Raises:
        Undelivered: with the outcome.
    """
    api, flow_run = os.environ.get("PREFECT_API_URL", ""), runtime.flow_run.id
    if flow_run and not answers(api):
        write(Lease(Owner.here(), str(flow_run), api, done=done, own=is_own(api, workspace)), workspace)
        raise Undelivered(outcome)
