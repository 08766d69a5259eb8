"""One at a time: whose turn it is to change a registered model.

Runs and commands on several machines change one registry, and all that they share is MLflow's store: a SQLite file, a
database, a server. It knows no locks, and its tags no compare-and-set. But numbers are given out once (see
`tasks.register.series`), and whoever gets one sees all below it. So they are tickets. Whoever wants a turn creates a
version of the model `TICKETS`; the lowest ticket for a name has the turn, and ends it by deleting itself, which can hit
no other.

A ticket shows every few seconds that its owner lives. One that has not for `STALE` seconds by the clock of whoever
waits, so that no clocks are compared, is deleted by it; at once where the owner was a process of this machine and is
no more. An owner that was taken for dead while it slept finds out in `Turn.check`, before it changes anything; only
what it was changing in that very moment would meet the next one's changes.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from tasks.errors import UnchangeableError
from tasks.owner import Owner
from tasks.progress import tell
from tasks.register.client import Registry, Version, refusals
from tasks.register.series import Series, draw

TICKETS = ".headstart-turns"
"""The registered model whose versions are tickets; no pipeline can have this name."""

SERIES = Series(
    TICKETS, "No model: headstart keeps here whose turn it is to change one. Leave it where it is.", "headstart:/turn"
)
MODEL, OWNER, ALIVE = "model", "owner", "alive"

BEAT, STALE, LOOK = 3.0, 60.0, 0.2
"""Seconds between signs of life; without one until a ticket is taken for abandoned; and between looks at the queue for
each ticket ahead, so that those at its end keep nobody from working."""

PATIENCE = 2.0
"""Seconds of waiting until it is said for whom."""


@dataclass(frozen=True)
class Turn:
    """A ticket, held.

    >>> with turn(client, "digits") as mine:
    ...     mine.check()  # before each change that follows long work
    """

    client: Registry
    name: str
    number: int

    def check(self) -> dict[int, Version]:
        """The tickets of all who want a turn; this one is among them, or it was taken away.

        Raises:
            RegistryError: this process gave no sign of life for so long that others went on.
        """
        queue = _queue(self.client, self.name)
        if self.number not in queue:
            raise UnchangeableError(
                f"this process stood still so long that others took over model {self.name!r}: do it once more"
            )
        return queue


@contextmanager
def turn(client: Registry, name: str) -> Iterator[Turn]:
    """Let one process at a time into the block, of all that use a registry, for one model; first come, first served.

    Raises:
        RegistryError: the registry does not take a ticket.
    """
    mine = Turn(client, name, _draw(client, name))
    done = threading.Event()
    beating = threading.Thread(target=_live, args=(mine, done), daemon=True)
    beating.start()
    try:
        _wait(mine)
        yield mine
    finally:
        done.set()
        beating.join()
        _drop(client, mine.number)


def _draw(client: Registry, name: str) -> int:
    tags = {MODEL: name, OWNER: json.dumps(asdict(Owner.here())), ALIVE: "0"}
    return draw(client, SERIES, tags, name)


def _live(mine: Turn, done: threading.Event) -> None:
    beats = 0
    while not done.wait(BEAT):
        beats += 1
        with suppress(Exception):  # whatever it is, the next sign may get through
            mine.client.set_model_version_tag(TICKETS, str(mine.number), ALIVE, str(beats))


def _wait(mine: Turn) -> None:
    """Return when all tickets before this one are gone; delete those that nobody will."""
    began, said = time.monotonic(), False
    seen: dict[tuple[int, str], float] = {}
    while True:
        queue = mine.check()
        ahead = {number: ticket for number, ticket in queue.items() if number < mine.number}
        now = time.monotonic()
        for number, ticket in list(ahead.items()):
            since = seen.setdefault((number, ticket.tags[ALIVE]), now)
            dead = _owner(ticket).is_dead
            if dead or now - since > STALE:
                _drop(mine.client, number)
            if dead:  # passed by also where only its owner may delete it; one that sleeps would not find out
                del ahead[number]
        if not ahead:
            return
        if not said and now - began > PATIENCE:
            said, first = True, _owner(ahead[min(ahead)])
            tell(f"register\twaiting for {first.who} on {first.host}, who is at work on model {mine.name!r}")
        time.sleep(random.uniform(LOOK / 2, LOOK) * len(ahead))


def _queue(client: Registry, name: str) -> dict[int, Version]:
    """Tickets for a model by their numbers."""
    tickets = client.search_model_versions(f"name = '{TICKETS}' and tags.{MODEL} = {name!r}", max_results=10_000)
    # MLflow reads tags after versions: those of a ticket that was deleted in between are missing.
    return {int(ticket.version): ticket for ticket in tickets if ALIVE in ticket.tags}


def _owner(ticket: Version) -> Owner:
    """Whose a ticket is; somebody's of whom nothing is known, where its tag was edited by hand."""
    try:
        return Owner(**json.loads(ticket.tags[OWNER]))
    except (KeyError, ValueError, TypeError):
        return Owner("somebody", "another machine", "", 0, 0.0)


def _drop(client: Registry, number: int) -> None:
    with suppress(*refusals()):  # gone already
        client.delete_model_version(TICKETS, str(number))
