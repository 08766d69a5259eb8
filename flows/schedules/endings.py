"""Why runs are ended, and what is said to Prefect of one that is over and did not say it itself."""

from __future__ import annotations

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Crashed, Failed

from flows.schedules.scheduled import Process

TIMED_OUT, STOPPED, REPLACED, ASKED = (
    "it took longer than its limit", "the schedule was ended", "the next one was due", "somebody cancelled it",
)  # fmt: skip


def ending(process: Process, state: State | None) -> State | None:
    """The state of a run whose process is over, and which did not do its work; None: it stays in that which it has."""
    if process.why == TIMED_OUT:
        return Failed(name="TimedOut", message=f"Ended: {TIMED_OUT}.")
    if process.why:
        return Cancelled(message=f"Ended: {process.why}.")
    if state is None or not state.is_final():
        return Crashed(message=f"Process {process.owner.pid} died{process.of_what}.")
    return None
