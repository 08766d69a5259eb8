"""The alias ``champion``: how it is moved, and that each move is in the ledger.

A move is announced in a tag, made, and then written down (see `tasks.register.ledger`); broken off in between, it
counts as made if the alias is where it was to go, and not otherwise. Where the alias is elsewhere than the last move
left it, somebody moved it by other means, and that becomes a move, too. So ledger and alias always agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from tasks.errors import RegistryError
from tasks.machine import user_name
from tasks.progress import tell
from tasks.register import ledger
from tasks.register.client import Model, Registry, Version, refusals
from tasks.register.ledger import TIME, Move, find_version, read_ledger, this_host
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
from tasks.wording import brief, first_line

ANNOUNCED = "moving"
"""Tag of a registered model: of the move in the making."""

GATE = "gate"
"""Who moves the alias where no person does."""

UNKNOWN = "unknown"
"""Who moved it by other means: MLflow does not say."""

LONGEST_WHY = 2000
"""Signs of a reason; the announcement has to fit into a tag, which databases end at 5,000."""


def promote(client: Registry, name: str, which: str | int, why: str, who: str | None = None) -> Move:
    """Make a version champion, and write down who did it and why.

    Raises:
        RegistryError: there is no such version, its files are gone, it is champion already, somebody else moved the
            alias between the asking and the doing, or the reason is too long to be kept.
    """
    check_why(why)
    seen = full_history(client, name)
    number = get_version(client, name, which).version  # an alias may have moved by the time that it is our turn
    with turn(client, name) as mine:
        settle(client, name)
        _check_unmoved(client, name, seen)
        found = get_version(client, name, number)
        check_files(client, found)
        return move_to(mine, "promote", int(found.version), why, who)


def rollback(client: Registry, name: str, why: str, who: str | None = None, to: int | None = None) -> Move:
    """Give the alias back to the version that was champion before.

    Args:
        to: a version that was champion further back.

    Raises:
        RegistryError: there is no such model, or no earlier champion; it was deleted or has lost its files: the message
            names the next one back; somebody else moved the alias meanwhile; or the reason is too long to be kept.
    """
    check_why(why)
    seen = full_history(client, name)
    with turn(client, name) as mine:
        settle(client, name)
        _check_unmoved(client, name, seen)
        return move_to(mine, "rollback", _before(client, name, to), why, who)


def notice(client: Registry, name: str) -> None:
    """Write down what happened to the alias by other means, and what tags of old say, where this user may."""
    model = get_model(client, name)
    if not ledger.tagged(model) and not _unwritten(client, model, read_ledger(client, model)):
        return
    try:
        with turn(client, name):
            settle(client, name)
    except (RegistryError, *refusals()) as error:
        tell(f"register\tnot written down, since the registry takes no changes ({first_line(error)})")


def history(client: Registry, name: str) -> list[Move]:
    """All moves of ``champion``, oldest first; the last one ends where the alias is."""
    born = get_model(client, name).creation_timestamp
    return [move for move in full_history(client, name) if move.born in (0, born)]


def full_history(client: Registry, name: str) -> list[Move]:
    """All moves, also those of models that had the name before and were deleted."""
    model = get_model(client, name)
    written = read_ledger(client, model)
    return written + _unwritten(client, model, written)


def settle(client: Registry, name: str) -> None:
    """Write down what happened to the alias and was not, and take back what was announced and not done."""
    model = get_model(client, name)
    ledger.take_over(client, model)
    written = read_ledger(client, model)
    unwritten = _unwritten(client, model, written)
    for move in unwritten:
        written.append(ledger.add(client, model, move, written))
        tell(f"register\t{_told(move)}")
    if ANNOUNCED in model.tags:
        announced = _announced(model)
        client.delete_registered_model_tag(name, ANNOUNCED)
        if announced and announced.when not in {move.when for move in written}:
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
    moves = full_history(client, name)
    previous = moves[-1].version if moves else None
    if version == previous:
        raise RegistryError(f"version {version} of {name!r} is the champion already")
    move = Move(action, version, previous, who or user_name(), _now(moves), brief(why, LONGEST_WHY), this_host())
    mine.check()
    client.set_registered_model_tag(name, ANNOUNCED, json.dumps(asdict(move), ensure_ascii=False))
    client.set_registered_model_alias(name, CHAMPION, str(version))
    move = ledger.add(client, get_model(client, name), move, moves)
    client.delete_registered_model_tag(name, ANNOUNCED)
    _drop_challenger(client, get_model(client, name))
    return move


def check_why(why: str) -> None:
    """A reason is kept whole, or not taken.

    Raises:
        RegistryError: it is too long.
    """
    if len(why) > LONGEST_WHY:
        raise RegistryError(
            f"the reason has {len(why):,} signs, of which {LONGEST_WHY:,} are kept with a move: put the rest where it "
            "can be read, and say where"
        )


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


def _check_unmoved(client: Registry, name: str, seen: Sequence[Move]) -> None:
    moves = full_history(client, name)
    if len(moves) == len(seen):
        return
    last = moves[-1]
    raise RegistryError(
        f"nothing was changed: champion of {name!r} was moved meanwhile ({ledger.told(last)}); say it again if it is "
        "still what you want"
    )


def _before(client: Registry, name: str, to: int | None = None) -> int:
    """The last champion before this one, or the one that is asked for, if it is still there."""
    versions = all_versions(client, name)
    earlier = _earlier(client, name, versions)
    if not earlier:
        raise RegistryError(f"model {name!r} has had no earlier champion to go back to")
    if to is not None and to not in earlier:
        raise RegistryError(
            f"version {to} of {name!r} was not champion before; those that were: {', '.join(map(str, earlier))}"
        )
    wanted, *further = earlier[0 if to is None else earlier.index(to) :]
    if reason := _gone(client, versions, wanted):
        back = next((number for number in further if _gone(client, versions, number) is None), None)
        way = f"the next one back is version {back}: `headstart rollback {name} --to {back}`"
        otherwise = "and there is no other earlier champion to go back to"
        raise RegistryError(f"version {wanted} of {name!r}, champion before: {reason}; {way if back else otherwise}")
    return wanted


def _earlier(client: Registry, name: str, versions: Mapping[int, Version]) -> list[int]:
    """Versions that were champion before this one, the last first; where the champion was deleted, which is what a
    roll-back is to mend, without it."""
    moves = history(client, name)
    *earlier, now = reigns(moves) or [None]
    left = {now}
    if now is None and moves and moves[-1].previous not in versions:
        left.add(moves[-1].previous)
    return list(dict.fromkeys(number for number in reversed(earlier) if number and number not in left))


def _gone(client: Registry, versions: Mapping[int, Version], number: int) -> str | None:
    if number not in versions:
        return "it was deleted"
    gone = missing_files(client, versions[number])
    return f"it has lost its files ({gone})" if gone else None


def _unwritten(client: Registry, model: Model, written: Sequence[Move]) -> list[Move]:
    """The moves that took the alias to where it is, unless they are written down."""
    found = []
    before = written[-1].version if written else None
    if before and written[-1].born not in (0, model.creation_timestamp):
        why = "the model was deleted outside headstart; another one has its name now"
        found.append(Move("outside", None, before, UNKNOWN, _now(written), why, born=written[-1].born))
        before = None
    now = int(model.aliases[CHAMPION]) if CHAMPION in model.aliases else None
    if now == before:
        return found
    if (announced := _announced(model)) and announced.version == now:
        return [*found, replace(announced, previous=before)]
    why = "set outside headstart"
    if now is None:
        is_there = find_version(client, model.name, before)
        why = "removed outside headstart" if is_there else f"version {before} was deleted outside headstart"
    return [*found, Move("outside", now, before, UNKNOWN, _now([*written, *found]), why)]


def _announced(model: Model) -> Move | None:
    return ledger.read_move(model.tags.get(ANNOUNCED, ""))


def _told(move: Move) -> str:
    if move.action == "outside":
        what = "was removed" if move.version is None else f"was set to version {move.version}"
        return f"champion {what} outside headstart: now in its history"
    return (
        f"champion is version {move.version}: {move.who} had moved it, and was broken off before that was written down"
    )


def _drop_challenger(client: Registry, model: Model) -> None:
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
