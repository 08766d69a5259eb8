"""The ledger: every move of the alias ``champion``, to which entries are added and from which none is taken.

An entry is a number of the series `SERIES` with the move in a tag, as JSON. So it appears whole, nothing can overwrite
it, and it stays when the version, the run or the registered model that it tells of is deleted. It follows a model that
is renamed, and tells of the one that had the name before and was deleted. Each entry names the one before it: one that
somebody deletes on MLflow's page is missed.

Before there was a ledger, a move was a tag ``move.<time>`` of the registered model, whose values databases end at 5,000
signs, and which went with the model. The next command that looks at it takes them over.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from tasks.register.client import Model, Registry, Version, refusals
from tasks.register.registry import all_models, every, rulings_of
from tasks.register.series import FLEETING, Series, draw
from tasks.register.tags import CANDIDATE, DATA, HELD_OUT
from tasks.wording import brief

Action = Literal["promote", "rollback", "outside"]

SERIES = Series(
    ".headstart-ledger",
    "No model: headstart keeps here who moved which champion, when and why. Leave it where it is.",
    "headstart:/ledger",
)

MODEL, BORN, ENTRY = "model", "born", "entry"
"""Tags of an entry: the registered model's name, and when it was made, which stays when it is renamed; and the move."""

TIME = "%Y-%m-%dT%H:%M:%S.%fZ"

MOVE = "move."
"""How the tags of a registered model began that were the history before there was the ledger."""

LONGEST, FACT = 4000, 500
"""Signs of an entry's description, of which databases take 5,000, and of one fact of a version."""

KEPT = {
    "data": DATA, "candidate": CANDIDATE, "held_out": HELD_OUT, "method": "method", "backbone": "backbone",
    "verdict": "verdict",
}  # fmt: skip
"""What an entry tells of the version, and the version's tag that says it."""


@dataclass(frozen=True)
class Move:
    """One move of the alias ``champion`` from ``previous`` to ``version``; None: no version has it.

    Attributes:
        action: ``outside`` means by other means than headstart, such as MLflow's page.
        who, host: the user, and the machine's name.
        when: in UTC; of a move by other means, when it was noticed.
        facts: of the version as it was then, by which it is known when it is gone: ``run``, ``data``, ``held_out``,
            ``verdict``, ``gates`` (what each said)...
        born: when the registered model was made, in milliseconds since the epoch.
        number, after: of this entry and of the one before it; 0 where there is none.
    """

    action: Action
    version: int | None
    previous: int | None
    who: str
    when: str
    why: str
    host: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    born: int = 0
    number: int = 0
    after: int = 0


def read_ledger(client: Registry, model: Model) -> list[Move]:
    """What is written down of a model, oldest first, also of those that had its name before and were deleted."""
    born = str(model.creation_timestamp)
    rows = {int(row.version): row for row in _rows(client, MODEL, model.name)}
    if others := {row.tags.get(BORN) for row in rows.values()} - {born}:
        others &= {str(each.creation_timestamp) for each in all_models(client) if each.name != model.name}
        rows = {number: row for number, row in rows.items() if row.tags.get(BORN) not in others}
    former = [row for row in _rows(client, BORN, born) if row.tags.get(MODEL) not in (model.name, None)]
    twins = {name for name in {row.tags[MODEL] for row in former} if _born(client, name) == born}
    rows |= {int(row.version): row for row in former if row.tags[MODEL] not in twins}
    moves = [read_move(rows[number].tags.get(ENTRY, ""), number) for number in sorted(rows)]
    # A server whose answer got lost has been asked twice.
    known: dict[str, Move] = {}
    for move in [*filter(None, moves), *tagged(model).values()]:
        known.setdefault(move.when, move)
    return sorted(known.values(), key=lambda move: move.when)


def tagged(model: Model) -> dict[str, Move]:
    """Moves that are tags of the model still, by these."""
    found = {key: read_move(model.tags[key]) for key in sorted(model.tags) if key.startswith(MOVE)}
    return {key: move for key, move in found.items() if move}


def add(client: Registry, model: Model, move: Move, written: Sequence[Move]) -> Move:
    """Write a move down, after those that are; nobody else does so meanwhile.

    Raises:
        RegistryError: the registry takes no entry.
    """
    facts = move.facts or facts_of(client, model.name, move.version)
    after = max((earlier.number for earlier in written), default=0)
    born = move.born or model.creation_timestamp or 0
    whole = replace(move, facts=facts, born=born, after=after)
    tags = {MODEL: model.name, BORN: str(whole.born), ENTRY: json.dumps(asdict(whole), ensure_ascii=False)}
    number = draw(client, SERIES, tags, model.name, brief(f"{model.name}: {told(whole)}", LONGEST))
    return replace(whole, number=number)


def take_over(client: Registry, model: Model) -> None:
    """Move to the ledger what is written in tags of the model."""
    if not (old := tagged(model)):
        return
    rows = [move for move in read_ledger(client, model) if move.number]
    for key, move in old.items():
        if move.when not in {row.when for row in rows}:
            rows.append(add(client, model, move, rows))
        client.delete_registered_model_tag(model.name, key)


def missed(moves: Iterable[Move]) -> list[int]:
    """Numbers of entries that others name and that are not there."""
    moves = list(moves)
    there = {move.number for move in moves}
    return sorted({move.after for move in moves if move.after} - there)


def facts_of(client: Registry, name: str, version: int | None) -> dict[str, Any]:
    """What an entry tells of a version; nothing where there is none."""
    found = find_version(client, name, version)
    if found is None:
        return {}
    facts: dict[str, Any] = {key: brief(found.tags[tag], FACT) for key, tag in KEPT.items() if tag in found.tags}
    said = {ruling.gate: ruling.outcome for ruling in rulings_of(found)}
    return ({"run": found.run_id} if found.run_id else {}) | facts | ({"gates": said} if said else {})


def find_version(client: Registry, name: str, version: int | None) -> Version | None:
    """A version by its number; None where there is none, or none any more."""
    try:
        return client.get_model_version(name, str(version)) if version else None
    except refusals() as error:
        if error.error_code in FLEETING:
            raise
        return None


def told(move: Move) -> str:
    """A move in one line."""
    at = f" on {move.host}" if move.host else ""
    step = f"champion {move.previous or 'none'} → {move.version or 'none'} ({move.action})"
    return f"{step} by {move.who}{at}, {move.when[:19].replace('T', ' ')} UTC" + (f": {move.why}" if move.why else "")


def this_host() -> str:
    """The machine's name."""
    return socket.gethostname()


def _rows(client: Registry, tag: str, value: str) -> list[Version]:
    wanted = f"name = '{SERIES.name}' and tags.{tag} = {value!r}"
    return list(every(lambda **page: client.search_model_versions(wanted, **page)))


def _born(client: Registry, name: str) -> str | None:
    """When a model was made; None where there is none of that name."""
    try:
        return str(client.get_registered_model(name).creation_timestamp)
    except refusals() as error:
        if error.error_code in FLEETING:
            raise
        return None


def read_move(text: str, number: int = 0) -> Move | None:
    """A move as JSON tells it; None where it tells of none, as a tag that somebody edited by hand."""
    try:
        known = json.loads(text)
        move = Move(**{key: known[key] for key in known if key in Move.__dataclass_fields__})
        datetime.strptime(move.when, TIME)
    except (ValueError, TypeError, AttributeError):
        return None
    return replace(move, number=number)
