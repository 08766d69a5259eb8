"""One at a time: in the order of asking, over a file and over a server, and past those who died."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import replace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from tasks import owner
from tasks.errors import RegistryError
from tasks.register import moves, turns
from tasks.register.turns import TICKETS, Turn, turn
from tasks.workspace import Workspace
from tests.register import apart
from tests.register.conftest import Fill


def tickets(client: MlflowClient) -> list[int]:
    return sorted(int(ticket.version) for ticket in client.search_model_versions(f"name='{TICKETS}'"))


def test_a_turn_is_waited_for_and_given_back_even_after_an_error(client: MlflowClient) -> None:
    with pytest.raises(ZeroDivisionError), turn(client, "birds") as mine:
        mine.check()
        assert tickets(client) == [mine.number]
        1 / 0  # noqa: B018
    assert tickets(client) == []
    with turn(client, "birds") as second, turn(client, "fish") as other:  # another model is nobody's concern
        assert mine.number < second.number < other.number


def test_where_nobody_may_begin_a_series_that_is_told(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise MlflowException("Permission denied", PERMISSION_DENIED)

    monkeypatch.setattr(random, "uniform", lambda *_: 0)
    monkeypatch.setattr(client, "create_registered_model", refuse)
    with pytest.raises(RegistryError, match=r"takes no changes to model 'birds' \(.*Permission denied\)$"):
        turn(client, "birds").__enter__()


@pytest.mark.slow
def test_the_turn_of_a_killed_process_ends_with_it(client: MlflowClient, workspace: Workspace) -> None:
    holder = apart.start(workspace.tracking_uri, "hold", "birds")
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    [number] = tickets(client)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    began = time.monotonic()
    with turn(client, "birds") as mine:
        assert mine.number > number and tickets(client) == [mine.number]
    assert time.monotonic() - began < turns.STALE / 2
    with pytest.raises(RegistryError, match="others took over model 'birds'"):
        Turn(client, "birds", number).check()


def test_a_ticket_of_another_machine_is_waited_for_until_it_shows_no_sign_of_life(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "BEAT", 0.1)
    monkeypatch.setattr(turns, "STALE", 1.5)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(owner, "this_machine", lambda: "another")
        silent = turns._draw(client, "birds")
        with turn(client, "fish") as alive:
            elsewhere.undo()
            monkeypatch.setattr(turns, "BEAT", 0.1)
            monkeypatch.setattr(turns, "STALE", 1.5)
            began = time.monotonic()
            with turn(client, "birds"):
                assert 1.5 < time.monotonic() - began < 30
            assert silent not in tickets(client) and alive.number in tickets(client)


def test_a_dead_ticket_that_may_not_be_deleted_is_passed_by(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, drop = replace(owner.Owner.here(), began=0.0), turns._drop
    with monkeypatch.context() as before:
        before.setattr(owner.Owner, "here", classmethod(lambda _: gone))
        left = turns._draw(client, "birds")
    monkeypatch.setattr(turns, "_drop", lambda client, number: None if number == left else drop(client, number))
    with turn(client, "birds") as mine:
        assert tickets(client) == [left, mine.number]


@pytest.mark.slow
def test_processes_that_share_a_server_take_turns(
    client: MlflowClient, server: str, fill: Fill, workspace: Workspace
) -> None:
    fill(client, "birds", 5)
    apart.run(server, "crowd", "birds", *map(str, range(1, 6)))
    made = moves.history(client, "birds")
    assert sorted(move.version for move in made if move.version) == list(range(1, 6))
    assert [move.previous for move in made] == [None, *(move.version for move in made[:-1])]
    assert tickets(client) == []
