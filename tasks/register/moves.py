"""The alias ``champion``: who moved it, when and why, and how it is moved.

Every move is kept as a tag ``move.<time>`` of the registered model, so that a roll-back knows where to go back to and
nobody has to remember who did what. A move is announced in a tag, made, and then written down; broken off in between,
it counts as made if the alias is where it was to go, and not otherwise. Where the alias is elsewhere than the last
move left it, somebody moved it by other means, and that becomes a move, too. So history and alias always agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel

from tasks.errors import RegistryError
from tasks.machine import user_name
from tasks.progress import tell
from tasks.register.registry import (
    CHALLENGER,
    CHAMPION,
    all_versions,
    check_files,
    get_model,
    get_version,
    missing_files,
)
from tasks.register.turns import Turn, turn

MOVE, ANNOUNCED = "move.", "moving"
"""Tags of a registered model: of the moves that were made, each with its time behind, and of the one in the making."""

GATE = "gate"
"""Who moves the alias where no person does."""

TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True)
class Move:
    """One move of the alias ``champion`` from ``previous`` to ``version``; None: no version has it.

    ``outside`` means by other means than headstart, such as MLflow's page; ``when`` it was noticed.
    """

    action: Literal["promote", "rollback", "outside"]
    version: int | None
    previous: int | None
    who: str
    when: str
    why: str


def promote(client: MlflowClient, name: str, which: str | int, why: str, who: str | None = None) -> Move:
    """Make a version champion, and write down who did it and why.

    Raises:
        RegistryError: there is no such version, its files are gone, or it is champion already.
    """
    get_version(client, name, which)
    with turn(client, name) as mine:
        settle(client, name)
        found = get_version(client, name, which)
        check_files(client, found)
        return move_to(mine, "promote", int(found.version), why, who)


def rollback(client: MlflowClient, name: str, why: str, who: str | None = None) -> Move:
    """Give the alias back to the version that was champion before; one that was deleted is passed over.

    Raises:
        RegistryError: there is no such model, or no earlier champion.
    """
    get_model(client, name)
    with turn(client, name) as mine:
        settle(client, name)
        version, passed = _before(client, name)
        for number, reason in passed.items():
            tell(f"register\tpassed over version {number}, champion before: {reason}")
        return move_to(mine, "rollback", version, why, who)


def history(client: MlflowClient, name: str) -> list[Move]:
    """All moves of ``champion``, oldest first; the last one ends where the alias is."""
    model = get_model(client, name)
    return _written(model) + _unwritten(model)


def settle(client: MlflowClient, name: str) -> None:
    """Write down what happened to the alias and was not, and take back what was announced and not done."""
    model = get_model(client, name)
    unwritten = _unwritten(model)
    for move in unwritten:
        _write(client, name, move)
        tell(f"register\t{_told(move)}")
    if ANNOUNCED in model.tags:
        announced = _read(model.tags[ANNOUNCED])
        client.delete_registered_model_tag(name, ANNOUNCED)
        if announced.when not in {move.when for move in [*_written(model), *unwritten]}:
            tell(
                f"register\tchampion stays as it is: {announced.who} had begun to move it to version "
                f"{announced.version} and was broken off"
            )
    _drop_challenger(client, model)


def move_to(
    mine: Turn, action: Literal["promote", "rollback"], version: int, why: str, who: str | None = None
) -> Move:  # fmt: skip
    """Move the alias; nobody else does so meanwhile.

    Raises:
        RegistryError: the version is champion already.
    """
    client, name = mine.client, mine.name
    moves = history(client, name)
    previous = moves[-1].version if moves else None
    if version == previous:
        raise RegistryError(f"version {version} of {name!r} is the champion already")
    move = Move(action, version, previous, who or user_name(), _now(moves), why)
    mine.check()
    client.set_registered_model_tag(name, ANNOUNCED, json.dumps(asdict(move)))
    client.set_registered_model_alias(name, CHAMPION, str(version))
    _write(client, name, move)
    client.delete_registered_model_tag(name, ANNOUNCED)
    _drop_challenger(client, get_model(client, name))
    return move


def reigns(moves: Sequence[Move]) -> list[int | None]:
    """Champions one after another as a stack: a move adds one, a roll-back takes off what lies above the version that
    it went to, so rolling back twice goes back two steps."""
    stack: list[int | None] = []
    for move in moves:
        if move.action != "rollback":
            stack.append(move.version)
            continue
        del stack[-1:]
        while stack and stack[-1] != move.version:
            stack.pop()
    return stack


def _before(client: MlflowClient, name: str) -> tuple[int, dict[int, str]]:
    """The last champion before this one that is still there, and why those after it were passed over."""
    *earlier, now = reigns(history(client, name)) or [None]
    versions = all_versions(client, name)
    passed: dict[int, str] = {}
    for number in reversed(earlier):
        if number is None or number == now:
            continue
        if (reason := _gone(client, versions, number)) is None:
            return number, passed
        passed[number] = reason
    reasons = "".join(f"; version {number}: {reason}" for number, reason in passed.items())
    raise RegistryError(f"model {name!r} has had no earlier champion to go back to{reasons}")


def _gone(client: MlflowClient, versions: Mapping[int, ModelVersion], number: int) -> str | None:
    if number not in versions:
        return "it was deleted"
    gone = missing_files(client, versions[number])
    return f"it has lost its files ({gone})" if gone else None


def _written(model: RegisteredModel) -> list[Move]:
    return [_read(model.tags[key]) for key in sorted(model.tags) if key.startswith(MOVE)]


def _unwritten(model: RegisteredModel) -> list[Move]:
    """The move that took the alias to where it is, unless it is written down; at most one."""
    written = _written(model)
    before = written[-1].version if written else None
    now = int(model.aliases[CHAMPION]) if CHAMPION in model.aliases else None
    if now == before:
        return []
    if ANNOUNCED in model.tags and (announced := _read(model.tags[ANNOUNCED])).version == now:
        return [replace(announced, previous=before)]
    why = "removed outside headstart" if now is None else "set outside headstart"
    return [Move("outside", now, before, "unknown", _now(written), why)]


def _read(text: str) -> Move:
    return Move(**json.loads(text))


def _write(client: MlflowClient, name: str, move: Move) -> None:
    client.set_registered_model_tag(name, f"{MOVE}{move.when}", json.dumps(asdict(move)))


def _told(move: Move) -> str:
    if move.action == "outside":
        what = "was removed" if move.version is None else f"was set to version {move.version}"
        return f"champion {what} outside headstart: now in its history"
    return (
        f"champion is version {move.version}: {move.who} had moved it, and was broken off before that was written down"
    )


def _drop_challenger(client: MlflowClient, model: RegisteredModel) -> None:
    """A champion is challenger no more."""
    if CHAMPION in model.aliases and model.aliases.get(CHALLENGER) == model.aliases[CHAMPION]:
        client.delete_registered_model_alias(model.name, CHALLENGER)


def _now(moves: Sequence[Move]) -> str:
    """The time or, where the last move was made by a machine whose clock is ahead, just after that."""
    now = datetime.now(UTC)
    if moves:
        last = datetime.strptime(moves[-1].when, TIME).replace(tzinfo=UTC)
        now = max(now, last + timedelta(microseconds=1))
    return now.strftime(TIME)
