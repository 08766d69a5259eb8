"""Versions of registered models, their aliases, and the record of who moved them and why.

Every move of ``champion`` is kept as a tag ``move.<time>`` of the registered model, so that a roll-back knows
where to go back to and nobody has to remember who did what.
"""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from tasks.errors import RegistryError
from tasks.records import Alias

CHAMPION: Alias = "champion"
CHALLENGER: Alias = "challenger"
CANDIDATE, SCORE, FIGURE, DATA = "candidate", "score", "figure", "data_version"
ACCURACY = "accuracy"
MOVE = "move."


@dataclass(frozen=True)
class Move:
    """One move of the alias ``champion``: to ``version`` from ``previous`` (None: there was none)."""

    action: Literal["promote", "rollback"]
    version: int
    previous: int | None
    who: str
    when: str
    why: str


def get_model(client: MlflowClient, name: str) -> RegisteredModel:
    """Look a registered model up.

    Raises:
        RegistryError: there is none of that name; the message lists those that there are.
    """
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        known = [model.name for model in client.search_registered_models()]
        raise RegistryError(
            f"there is no registered model {name!r}; "
            + (
                f"there are: {', '.join(known)}"
                if known
                else "none has been registered yet: `headstart run CONFIG` does"
            )
        ) from error


def get_version(client: MlflowClient, name: str, which: str | int) -> ModelVersion:
    """Look a version up by its number or alias.

    Raises:
        RegistryError: there is no such model, version or alias.
    """
    model = get_model(client, name)
    try:
        if str(which).isdigit():
            return client.get_model_version(name, str(which))
        return client.get_model_version_by_alias(name, str(which))
    except MlflowException as error:
        numbers = sorted(int(version.version) for version in client.search_model_versions(f"name='{name}'"))
        raise RegistryError(
            f"model {name!r} has no version or alias {which!r}; versions: {', '.join(map(str, numbers))}; "
            f"aliases: {', '.join(model.aliases) or 'none'}"
        ) from error


def champion_of(client: MlflowClient, name: str) -> ModelVersion | None:
    """The version that the alias ``champion`` points to."""
    aliases = get_model(client, name).aliases
    return client.get_model_version_by_alias(name, CHAMPION) if CHAMPION in aliases else None


def find_candidate(client: MlflowClient, name: str, fingerprint: str) -> ModelVersion | None:
    """The version that a candidate was registered as before, if it was."""
    found = client.search_model_versions(f"name='{name}' and tags.{CANDIDATE}='{fingerprint}'")
    return max(found, key=lambda version: int(version.version), default=None)


def judge(score: float, champion: ModelVersion | None, figure: str = ACCURACY) -> tuple[bool, str]:
    """The gate: whether a new version may become champion, and why.

    Args:
        score: of the new version on validation.
        figure: what ``score`` is, in words.
    """
    if champion is None:
        return True, "passed: the first version"
    best = float(champion.tags[SCORE])
    theirs = champion.tags.get(FIGURE, ACCURACY)  # versions of old do not say
    reigning = f"champion (version {champion.version}) {best:.4f}"
    if theirs != figure:
        return False, f"held back: validation {figure} {score:.4f} cannot be compared with {theirs}, {reigning}"
    return score >= best, f"{'passed' if score >= best else 'held back'}: validation {figure} {score:.4f}, {reigning}"


def promote(client: MlflowClient, name: str, which: str | int, why: str, who: str | None = None) -> Move:
    """Make a version champion, and write down who did it and why.

    Raises:
        RegistryError: there is no such version, or it is champion already.
    """
    version = int(get_version(client, name, which).version)
    current = champion_of(client, name)
    previous = int(current.version) if current else None
    if version == previous:
        raise RegistryError(f"version {version} of {name!r} is the champion already")
    return _move(client, name, "promote", version, previous, why, who)


def rollback(client: MlflowClient, name: str, why: str, who: str | None = None) -> Move:
    """Give the alias back to the version that was champion before.

    Raises:
        RegistryError: there is no such model, or no earlier champion.
    """
    reign = reigns(history(client, name))
    if len(reign) < 2:
        raise RegistryError(f"model {name!r} has had no earlier champion to go back to")
    get_version(client, name, reign[-2])
    return _move(client, name, "rollback", reign[-2], reign[-1], why, who)


def history(client: MlflowClient, name: str) -> list[Move]:
    """All moves of ``champion``, oldest first."""
    tags = get_model(client, name).tags
    return [Move(**json.loads(tags[key])) for key in sorted(tags) if key.startswith(MOVE)]


def reigns(moves: list[Move]) -> list[int]:
    """Champions one after another as a stack: a promotion adds one, a roll-back takes the last one off, so
    rolling back twice goes back two steps."""
    stack: list[int] = []
    for move in moves:
        if move.action == "promote":
            stack.append(move.version)
        elif stack:
            stack.pop()
    return stack


def _move(
    client: MlflowClient, name: str, action: Literal["promote", "rollback"], version: int, previous: int | None,
    why: str, who: str | None,
) -> Move:  # fmt: skip
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    move = Move(action, version, previous, who or getpass.getuser(), when, why)
    # The record first: a move that was written down and not made is seen at a glance, the reverse is not.
    client.set_registered_model_tag(name, f"{MOVE}{when}", json.dumps(asdict(move)))
    client.set_registered_model_alias(name, CHAMPION, str(version))
    if str(get_model(client, name).aliases.get(CHALLENGER)) == str(version):
        client.delete_registered_model_alias(name, CHALLENGER)
    return move
