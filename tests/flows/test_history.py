"""Which version was champion when, as `headstart models` tells it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from mlflow import MlflowClient

from flows.commands.history import history_json, history_table, read_time, reigns_during, reigns_table, show
from tasks.errors import ConfigurationError, RegistryError
from tasks.register import moves
from tasks.register.ledger import Move
from tasks.workspace import Workspace
from tests.register.conftest import Fill, client, empty_store, fill  # noqa: F401

MOVES = [
    Move("promote", 1, None, "ada", "2026-10-01T08:00:00.000000Z", "first", "gpu", {"run": "a" * 32}, 1, 1, 0),
    Move("promote", 2, 1, "gate", "2026-11-01T09:00:00.000000Z", "better", "gpu", {"data": "d"}, 1, 3, 1),
    Move("outside", None, 2, "unknown", "2026-11-02T10:00:00.000000Z", "removed", number=4, after=3),
]


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(os.environ, "TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def versions_at(text: str) -> list[int | None]:
    return [move.version for move in reigns_during(MOVES, *read_time(text))]


def test_a_time_has_the_champion_of_that_moment(berlin: None) -> None:
    assert versions_at("2026-09-30T23:00+00:00") == []
    assert versions_at("2026-11-01T09:59") == [1]  # in Berlin: 08:59 UTC
    assert versions_at("2026-11-01T10:00") == [2]
    assert versions_at("2026-11-01T09:00Z") == [2]
    assert versions_at("2026-12-24") == [None]


def test_a_day_has_every_champion_of_that_day(berlin: None) -> None:
    assert versions_at("2026-10-31") == [1]
    assert versions_at("2026-11-01") == [1, 2]
    assert read_time("2026-11-01") == (
        datetime(2026, 10, 31, 23, tzinfo=UTC), datetime(2026, 11, 1, 22, 59, 59, 999999, tzinfo=UTC),
    )  # fmt: skip

    assert read_time("20261101") == read_time("2026-11-01") and versions_at("20261101T0959") == [1]


@pytest.mark.parametrize("text", ["last week", "0001-01-01"])
def test_what_is_no_time_is_told_with_what_is(text: str, berlin: None) -> None:
    with pytest.raises(ConfigurationError, match=f"'{text}' is no time: as in --at 2026-11-01"):
        read_time(text)


def test_the_table_says_who_where_and_which_entry_is_missing() -> None:
    columns = {column.header: list(column.cells) for column in history_table([MOVES[0], MOVES[2]]).columns}
    assert columns["who"] == ["ada@gpu", "", "unknown"]
    assert columns["move"][1] == "entry 3 of the ledger was deleted outside headstart"
    assert [row for row in reigns_table(MOVES).columns[1].cells] == ["1", "2", "none"]
    assert '"run": "aaaa' in history_json(MOVES)


def test_what_was_champion_is_told_or_that_there_was_none(
    client: MlflowClient,  # noqa: F811
    workspace: Workspace,
    fill: Fill,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill(client, "birds", 2)
    moves.promote(client, "birds", 1, "good", who="ada")
    client.set_registered_model_alias("birds", "champion", "2")  # by other means
    show(workspace, "birds", None, False)
    told = capsys.readouterr().out
    assert "– → 1 (promote)" in told and "1 → 2 (outside)" in told and told.index("promote") < told.index("outside")
    assert [move.number for move in moves.history(client, "birds")] == [1, 2]  # noticed, and written down
    show(workspace, "birds", moves.history(client, "birds")[0].when, True)
    [at_first] = json.loads(capsys.readouterr().out)
    assert at_first["version"] == 1 and at_first["why"] == "good" and at_first["facts"]["candidate"] == "1"
    with pytest.raises(
        RegistryError, match="'birds' had no champion at 2020-01-01: `headstart models birds --history`"
    ):
        show(workspace, "birds", "2020-01-01", False)
