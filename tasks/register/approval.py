"""Versions that wait for a person, and what became of them: who decided, when and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from tasks.errors import RegistryError
from tasks.machine import user_name
from tasks.register.client import Registry, Version
from tasks.register.ledger import TIME
from tasks.register.moves import GATE, Move, check_why, history, move_to, settle
from tasks.register.registry import CHALLENGER, all_models, all_versions, check_files, get_model, get_version
from tasks.register.tags import entry_of
from tasks.register.turns import Turn, turn

APPROVAL, PENDING = "approval", "pending"
"""Tag of a version that waits for a person, and its value until one has decided; then it is a `Decision` (JSON)."""


@dataclass(frozen=True)
class Decision:
    """What a person made of a version that needed approval."""

    answer: Literal["approved", "rejected"]
    who: str
    when: str
    why: str

    def __str__(self) -> str:
        return f"{self.answer} by {self.who} on {self.when[:10]}" + (f" ({self.why})" if self.why else "")


def approve(client: Registry, name: str, which: str | int, why: str, who: str | None = None) -> Move:
    """Make a version champion that waits for it, and write down who approved it and why.

    Raises:
        RegistryError: there is no such version, it does not wait, its files are gone, somebody has decided, or the
            reason is too long to be kept.
    """
    check_why(why)
    number = get_version(client, name, which).version  # an alias may have moved by the time that it is our turn
    with turn(client, name) as mine:
        settle(client, name)
        version = _waiting(client, name, number)
        check_files(client, version)
        move = move_to(mine, "promote", int(version.version), why, who)
        _write(mine, version, Decision("approved", move.who, move.when, why))
    return move


def reject(client: Registry, name: str, which: str | int, why: str, who: str | None = None) -> Decision:
    """Leave the champion where it is, and write down who rejected a version that waits and why.

    Raises:
        RegistryError: there is no such version, it does not wait, somebody has decided, or the reason is too long to be
            kept.
    """
    check_why(why)
    number = get_version(client, name, which).version
    with turn(client, name) as mine:
        settle(client, name)
        version = _waiting(client, name, number)
        decision = Decision("rejected", who or user_name(), datetime.now(UTC).strftime(TIME), why)
        _write(mine, version, decision)
        if int(get_model(client, name).aliases.get(CHALLENGER, 0)) == int(version.version):
            client.delete_registered_model_alias(name, CHALLENGER)
    return decision


def waiting(client: Registry, name: str | None = None) -> list[Version]:
    """Versions of one or all models that wait for a person, the oldest of each model first."""
    names = [name] if name else [model.name for model in all_models(client)]
    found = []
    for each in names:
        marked = [version for version in all_versions(client, each).values() if _is_marked(version)]
        moves = history(client, each) if marked else []
        found += [version for version in marked if decision_on(version, moves) is None]
    return found


def decision_on(version: Version, moves: Sequence[Move]) -> Decision | None:
    """What a person has decided of a version that needed it; None where nobody has, or need not. Promoting it by other
    means is approval, too."""
    if APPROVAL not in version.tags:
        return None
    if not _is_marked(version):
        with suppress(TypeError):  # edited outside headstart
            return Decision(**(entry_of(version.tags, APPROVAL) or {}))
        return None
    chosen = [move for move in moves if move.version == int(version.version) and move.who != GATE]
    return Decision("approved", chosen[-1].who, chosen[-1].when, chosen[-1].why) if chosen else None


def _is_marked(version: Version) -> bool:
    return version.tags.get(APPROVAL) == PENDING


def _waiting(client: Registry, name: str, which: str | int) -> Version:
    version = get_version(client, name, which)
    what = f"version {version.version} of {name!r}"
    if decision := decision_on(version, history(client, name)):
        raise RegistryError(f"{what} does not wait any more: it was {decision}")
    if not _is_marked(version):
        others = ", ".join(str(each.version) for each in waiting(client, name)) or "none"
        raise RegistryError(
            f"{what} waits for nobody's approval; those that do: {others}. `headstart promote` makes any version "
            "champion"
        )
    return version


def _write(mine: Turn, version: Version, decision: Decision) -> None:
    """The one place where a decision is recorded."""
    mine.check()
    text = json.dumps(asdict(decision), ensure_ascii=False)
    mine.client.set_model_version_tag(mine.name, str(version.version), APPROVAL, text)
