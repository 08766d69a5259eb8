"""Versions that wait for a person, as Prefect's page shows them: a flow run each, suspended, with a form.

`suspend_flow_run` suspends the run that calls it, whose process has to start once more to hear the answer. Here no
process ever belongs to the run: it is made suspended, its form lies with Prefect's server, and so does the answer,
until somebody looks (`flows.schedules.approvals`). So it outlives whatever is started or stopped meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal
from uuid import UUID

from httpx import HTTPStatusError
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.input import keyset_from_paused_state
from prefect.states import Pending, Suspended
from pydantic import BaseModel, Field, ValidationError

from flows.runs.flow_runs import finish
from flows.schedules.deployments import identity
from tasks.machine import user_name
from tasks.register.moves import LONGEST_WHY
from tasks.ruling import Ruling
from tasks.workspace import Workspace

FLOW, KEY = "approval", "decision"

ABOUT = """Versions of registered models that need a person's word. Resume a suspended run and fill in the form; the
scheduler of the workspace, or the next `headstart` command there, does what the answer says. No worker is needed."""


class Answer(BaseModel):
    """What a person decides."""

    decision: Literal["approve", "reject"] = Field(description="approve: it becomes champion; reject: it does not")
    # A rule of the form alone: what a form without it has let through is read, and then refused in words.
    reason: str = Field(min_length=1, description="Kept with the version", json_schema_extra={"maxLength": LONGEST_WHY})
    who: str = Field(default="", description="Your name, kept with it; Prefect's own server knows none")


def suspend(
    client: SyncPrefectClient, name: str, version: int, made: int, verdict: str, rulings: Sequence[Ruling],
    workspace: Workspace,
) -> UUID | None:  # fmt: skip
    """Make the flow run that asks for approval, one however often this is called; None where it is over already.

    Args:
        made: when the version was made; numbers are given again where a model is deleted.
    """
    deployment = client.create_deployment(
        flow_id=client.create_flow_from_name(FLOW), name=f"approval-{user_name()}-{identity(workspace)}",
        description=ABOUT, tags=["headstart"], enforce_parameter_schema=False,
    )  # fmt: skip
    parameters: dict[str, Any] = {"model": name, "version": version, "verdict": verdict}
    run = client.create_flow_run_from_deployment(
        deployment, parameters=parameters, state=Pending(), name=f"approve {name} version {version}", tags=[name],
        idempotency_key=f"{deployment} {name} {version} {made}",
    )  # fmt: skip
    if run.state is None or run.state.type == StateType.PENDING:
        _ask(client, run.id, verdict, rulings)
    return None if run.state and run.state.is_final() else run.id


def read_answer(client: SyncPrefectClient, flow_run: UUID) -> Answer | None:
    """What a person answered; None where nobody has."""
    try:
        return Answer.model_validate_json(client.read_flow_run_input(flow_run, _keys(_suspended())["response"]))
    except (HTTPStatusError, ObjectNotFound, ValidationError):
        return None


def close(client: SyncPrefectClient, flow_run: UUID, state: State) -> None:
    """End the flow run, unless it has ended or somebody deleted it."""
    with suppress(ObjectNotFound):
        known = client.read_flow_run(flow_run).state
        if known is None or not known.is_final():
            finish(client, flow_run, state)


def _ask(client: SyncPrefectClient, flow_run: UUID, verdict: str, rulings: Sequence[Ruling]) -> None:
    """Lay the form down and suspend the run; Prefect has only running ones suspended, hence by force."""
    state = _suspended()
    keys = _keys(state)
    state.state_details.run_input_keyset = keys
    said = "\n".join(f"- **{each.gate}**: {each.outcome}. {each.reason}" for each in rulings)
    for key, value in ((keys["schema"], Answer.model_json_schema()), (keys["description"], f"{verdict}\n\n{said}")):
        with suppress(ObjectAlreadyExists, HTTPStatusError):  # a process that was killed here has laid it down
            client.create_flow_run_input(flow_run, key, json.dumps(value))
    client.set_flow_run_state(flow_run, state, force=True)


def _suspended() -> State:
    return Suspended(pause_key=KEY, message="Waits for a person: resume it to answer.")


def _keys(state: State) -> dict[str, str]:
    return {str(what): key for what, key in keyset_from_paused_state(state).items()}
