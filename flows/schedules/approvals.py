"""Answers given on Prefect's page to versions that need approval, and who hears of them.

Nobody waits: what was asked lies in ``mlruns/approvals/``, a file for each version, and whoever comes next asks Prefect
whether somebody has answered: the scheduler while one runs, and every command. What was answered is done by
``python -m flows.schedules.approvals``. The version's own tag says whether it waits, so an answer from the shell or
from another machine counts as much, and the flow run is closed with it. Importing this module imports neither Prefect
nor MLflow.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from flows.runs.leases import access_to, is_own
from flows.servers.environment import prefect_home
from flows.servers.server import ANSWER_SECONDS
from tasks.errors import RegistryError, UnchangeableError
from tasks.workspace import Workspace, write_whole

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from tasks.register.approval import Decision
    from tasks.register.client import Registry, Version


@dataclass(frozen=True)
class Asked:
    """A version that a person was asked about: its flow run, and the server that it is recorded on.

    Args:
        made: when the version was made, in milliseconds since the epoch: numbers are given again where a model is
            deleted. 0 in files of earlier versions.
        own: whether the server is the workspace's; None in files of earlier versions.
        decided: somebody has decided elsewhere, which Prefect's page is to hear.
    """

    name: str
    version: int
    flow_run: str
    api: str
    made: int = 0
    own: bool | None = None
    decided: bool = False


def ask(workspace: Workspace, name: str) -> None:
    """Ask on Prefect's page about the versions of a model that wait for a person; those that were asked about stay, and
    what was asked about deleted ones that had their numbers is taken back."""
    from flows.runs.flow_runs import client_of
    from flows.schedules.approval_runs import suspend
    from flows.schedules.deployments import GONE
    from tasks.register.approval import waiting
    from tasks.register.gate import VERDICT
    from tasks.register.registry import rulings_of
    from tasks.register.store import connect

    api = os.environ.get("PREFECT_API_URL", "")
    for version in waiting(connect(workspace), name):
        number, made = int(version.version), version.creation_timestamp
        known = _about(name, number, workspace)
        if made in {each.made for each in known}:
            continue
        settle(workspace, [each for each in known if each.made])
        try:
            with client_of(api, os.environ.get("PREFECT_API_AUTH_STRING")) as client:
                about = (made, version.tags.get(VERDICT, ""), rulings_of(version))
                flow_run = suspend(client, name, number, *about, workspace)
            if flow_run:
                _write(Asked(name, number, str(flow_run), api, made, is_own(api, workspace)), workspace)
        except (*GONE, OSError) as error:  # the next run asks again, and the shell is there
            logging.getLogger("headstart").warning("Prefect's page does not ask about it: %s", error, exc_info=error)
            return


def asked(workspace: Workspace) -> list[Asked]:
    """What people were asked about and was not closed since."""
    return list(_asked(workspace))


def answered(workspace: Workspace) -> list[Asked]:
    """Of these, those whose flow run is not suspended any more, or is to be closed, as far as the server answers."""
    return [each for each in asked(workspace) if _is_over(each, workspace)]


def apply_answers(workspace: Workspace) -> list[str]:
    """Do what was answered on Prefect's page since somebody looked, and return a line for each; what goes wrong there,
    another command mends."""
    if not os.access(_folder(workspace), os.W_OK):
        return []
    try:
        found = answered(workspace)
        return settle(workspace, found) if found else []
    except Exception as error:  # a server that is gone, say
        logging.getLogger("headstart").warning("an answer is not applied yet: %s", error, exc_info=error)
        return []


def settle(workspace: Workspace, chosen: list[Asked] | None = None) -> list[str]:
    """Bring what was asked, or what of it is chosen, to where the registry and Prefect's server stand; returns a line
    for each answer that was done. Whatever goes wrong there, another command mends."""
    told: list[str] = []
    for each in asked(workspace) if chosen is None else chosen:
        try:
            if (access := access_to(each.api, each.own, workspace)) and _settle(each, workspace, access, told):
                _path(each, workspace).unlink(missing_ok=True)
        except Exception as error:
            logging.getLogger("headstart").warning("a question is not closed yet: %s", error, exc_info=error)
            if isinstance(error, httpx.TransportError):  # the others that can be reached are on the same server
                break
    return told


def close_decided(workspace: Workspace, name: str, version: int) -> list[str]:
    """`settle`, once a person has decided on a version elsewhere, which stands whatever becomes of this.

    Returns:
        A line for each answer that was done, and one where the page still asks about the version.
    """
    for each in _about(name, version, workspace):
        with suppress(OSError):
            _write(replace(each, decided=True), workspace)
    told = settle(workspace)
    if _about(name, version, workspace):
        told.append(
            f"Prefect's page still asks about {name} version {version}: it hears of this with the next command that "
            "reaches its server"
        )
    return told


def _settle(each: Asked, workspace: Workspace, access: tuple[str, str | None], told: list[str]) -> bool:
    """Whether nothing is left to be done."""
    from flows.runs.flow_runs import client_of  # with Prefect, whose import takes seconds
    from tasks.register.store import open_registry

    with client_of(*access) as client:
        return _compared(each, open_registry(workspace), client, told)


def _compared(each: Asked, registry: Registry, client: SyncPrefectClient, told: list[str]) -> bool:
    """The same, with the registry and a client of Prefect's server."""
    from uuid import UUID

    from prefect.states import Cancelled, Completed, Failed

    from flows.schedules.approval_runs import close, read_answer
    from tasks.register.approval import decision_on
    from tasks.register.moves import history

    flow_run = UUID(each.flow_run)
    try:
        version = _version(each, registry)
    except RegistryError as error:
        if read_answer(client, flow_run):
            told.append(f"{each.name} version {each.version}: the answer on Prefect's page decides nothing: {error}")
        close(client, flow_run, Cancelled(message=str(error)))
        return True
    decision, failed = decision_on(version, history(registry, each.name)), None
    if decision is None and (answer := read_answer(client, flow_run)):
        who = f"{answer.who} (Prefect's page)" if answer.who else "Prefect's page"
        decision, failed = _decide(registry, version, answer.decision, answer.reason, who)
        told.append(f"{each.name} version {each.version}: {decision or failed}")
    if decision is None and failed is None:
        return _has_ended(client, flow_run)
    close(client, flow_run, Completed(message=str(decision)) if decision else Failed(message=failed))
    return True


def _version(each: Asked, registry: Registry) -> Version:
    """The version that a person was asked about.

    Raises:
        RegistryError: it was deleted.
    """
    from tasks.register.registry import get_version

    version = get_version(registry, each.name, each.version)
    if each.made and each.made != version.creation_timestamp:
        raise RegistryError(f"version {each.version} of {each.name!r} was deleted, and another has its number")
    return version


def _decide(
    registry: Registry, version: Version, answer: str, why: str, who: str
) -> tuple[Decision | None, str | None]:
    """Do what was answered; returns what is decided now, or why nothing is.

    Raises:
        UnchangeableError: it was not done, and can be by another command, or another user's.
    """
    from tasks.register import approval
    from tasks.register.moves import history
    from tasks.register.registry import get_version

    name, number = version.name, int(version.version)
    failed = None
    try:
        (approval.approve if answer == "approve" else approval.reject)(registry, name, number, why, who)
    except UnchangeableError:
        raise
    except RegistryError as error:  # its files are gone, or somebody was faster
        failed = str(error)
    return approval.decision_on(get_version(registry, name, number), history(registry, name)), failed


def _has_ended(client: SyncPrefectClient, flow_run) -> bool:  # type: ignore[no-untyped-def]
    """Whether somebody cancelled or deleted the flow run: the version waits on, for `headstart approve` or `reject`."""
    from prefect.exceptions import ObjectNotFound

    try:
        state = client.read_flow_run(flow_run).state
    except ObjectNotFound:
        return True
    return state is not None and state.is_final()


def _is_over(each: Asked, workspace: Workspace) -> bool:
    """By one request, without Prefect's client, whose import takes seconds."""
    access = access_to(each.api, each.own, workspace)
    if access is None:
        return False
    api, credentials = access
    auth = tuple(credentials.split(":", 1)) if credentials else None
    with suppress(httpx.HTTPError, ValueError):
        response = httpx.get(f"{api}/flow_runs/{each.flow_run}", auth=auth, timeout=ANSWER_SECONDS)  # type: ignore[arg-type]
        if response.status_code == httpx.codes.NOT_FOUND:
            return True
        return response.is_success and (each.decided or response.json().get("state_type") != "PAUSED")
    return False


def _about(name: str, version: int, workspace: Workspace) -> list[Asked]:
    return [each for each in asked(workspace) if (each.name, each.version) == (name, version)]


def _folder(workspace: Workspace) -> Path:
    return prefect_home(workspace.root).parent / "approvals"


def _asked(workspace: Workspace) -> Iterator[Asked]:
    for path in sorted(_folder(workspace).glob("*.json")):
        with suppress(OSError, ValueError, TypeError):
            yield Asked(**json.loads(path.read_text(encoding="utf-8")))


def _path(each: Asked, workspace: Workspace) -> Path:
    return _folder(workspace) / f"{each.flow_run}.json"


def _write(each: Asked, workspace: Workspace) -> None:
    _folder(workspace).mkdir(parents=True, exist_ok=True)
    write_whole(_path(each, workspace), json.dumps(asdict(each)))


def main() -> None:
    """Do what was answered in the workspace."""
    from flows.servers.environment import settle as settle_environment

    workspace = Workspace.find()
    settle_environment(workspace)
    for line in apply_answers(workspace):
        print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    main()
