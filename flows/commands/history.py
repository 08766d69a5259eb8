"""Who made which version champion, when and why; and which one was champion at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from rich.table import Table

from flows.console import out, plain_table, show_table
from tasks.errors import ConfigurationError, RegistryError
from tasks.register.ledger import TIME, Move, missed
from tasks.register.moves import full_history, notice
from tasks.register.store import open_registry
from tasks.workspace import Workspace

CLOCK = re.compile(r"[T ]")


def moves_of(workspace: Workspace, name: str) -> list[Move]:
    """All moves of ``champion``, oldest first; what was done by other means is written down where this user may.

    Raises:
        RegistryError: there is no such model.
    """
    client = open_registry(workspace)
    if workspace.is_writable:
        notice(client, name)
    return full_history(client, name)


def show(workspace: Workspace, name: str, at: str | None, as_json: bool) -> None:
    """Print a model's moves, or those that made champion what was champion at a time.

    Raises:
        ConfigurationError: that is no time.
        RegistryError: there is no such model, or it had no champion then.
    """
    period = read_time(at) if at else None
    moves = moves_of(workspace, name)
    if period:
        moves = reigns_during(moves, *period)
        if not any(move.version for move in moves):
            raise RegistryError(f"model {name!r} had no champion at {at}: `headstart models {name} --history`")
    if as_json:
        out.print(history_json(moves), soft_wrap=True)
    else:
        show_table(reigns_table(moves) if period else history_table(moves), "no version has been champion yet")


def history_table(moves: Sequence[Move]) -> Table:
    """Moves, newest last, and the entries that somebody has deleted."""
    table = plain_table("when (UTC)", "who", "move", "run", "why", title="champion")
    gone = missed(moves)
    for move in moves:
        if move.after in gone:
            table.add_row("", "", f"entry {move.after} of the ledger was deleted outside headstart", "", "")
        step = f"{move.previous or '–'} → {move.version or '–'} ({move.action})"
        table.add_row(_shown(move.when), _who(move), step, move.facts.get("run", "")[:8], move.why)
    return table


def history_json(moves: Sequence[Move]) -> str:
    """Moves as a JSON list, for other programs."""
    return json.dumps([asdict(move) for move in moves], indent=2, ensure_ascii=False)


def read_time(text: str) -> tuple[datetime, datetime]:
    """The first and last moment of what is asked for, a time or a day; without an offset in this machine's time zone.

    Raises:
        ConfigurationError: it is no time.
    """
    try:
        first = datetime.fromisoformat(text)
        last = first if CLOCK.search(text) else first + timedelta(days=1, microseconds=-1)
        return first.astimezone(UTC), last.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(
            f"{text!r} is no time: as in --at 2026-11-01, --at 2026-11-01T09:30 or --at 2026-11-01T09:30+00:00"
        ) from error


def reigns_during(moves: Sequence[Move], first: datetime, last: datetime) -> list[Move]:
    """The moves that made champion what was champion at some time between two."""
    before = [move for move in moves if _time(move) <= first]
    return [*before[-1:], *(move for move in moves if first < _time(move) <= last)]


def reigns_table(moves: Sequence[Move]) -> Table:
    """What was champion, since when, made of what, and by whom."""
    table = plain_table("since (UTC)", "version", "run", "data", "held-out", "who", "why", numbers=("version",))
    for move in moves:
        facts = (move.facts.get(key, "")[:length] for key, length in (("run", 8), ("data", 12), ("held_out", 40)))
        table.add_row(_shown(move.when), str(move.version or "none"), *facts, _who(move), move.why)
    return table


def _time(move: Move) -> datetime:
    return datetime.strptime(move.when, TIME).replace(tzinfo=UTC)


def _shown(when: str) -> str:
    return when[:19].replace("T", " ")


def _who(move: Move) -> str:
    return f"{move.who}@{move.host}" if move.host else move.who
