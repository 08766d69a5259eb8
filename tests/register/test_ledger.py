"""Moves that stay on record whatever becomes of what they tell of."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from mlflow import MlflowClient

from tasks.errors import RegistryError
from tasks.register import ledger, moves
from tasks.register.ledger import Move
from tasks.register.registry import CANDIDATE, get_model
from tasks.register.turns import turn
from tests.register.conftest import Fill


@pytest.fixture
def birds(either: MlflowClient, fill: Fill) -> MlflowClient:
    fill(either, "birds", 3)
    return either


def steps(client: MlflowClient, name: str = "birds") -> list[tuple[str, int | None, int | None]]:
    return [(move.action, move.previous, move.version) for move in moves.full_history(client, name)]


def numbers(client: MlflowClient) -> list[int]:
    return sorted(int(row.version) for row in client.search_model_versions(f"name = '{ledger.SERIES.name}'"))


def test_an_entry_tells_of_the_version_also_when_it_and_its_run_are_gone(birds: MlflowClient) -> None:
    run = birds.create_run("0").info.run_id
    source = birds.get_model_version_download_uri("birds", "1")
    said = json.dumps({"ruling": {"gate": "leak", "outcome": "pass", "reason": "no image has a near neighbour"}})
    birds.create_model_version("birds", source, run, tags={CANDIDATE: "c", "data_version": "d", "gate.1": said})
    moves.promote(birds, "birds", 4, why="good", who="ada")
    birds.delete_model_version("birds", "4")
    birds.delete_run(run)
    entry = moves.history(birds, "birds")[0]
    assert (entry.who, entry.host, entry.why) == ("ada", ledger.this_host(), "good")
    assert entry.facts == {"run": run, "data": "d", "candidate": "c", "gates": {"leak": "pass"}}


def test_a_renamed_model_keeps_its_history(birds: MlflowClient) -> None:
    for version in (1, 2):
        moves.promote(birds, "birds", version, why="")
    birds.rename_registered_model("birds", "fowl")
    moves.promote(birds, "fowl", 3, why="")
    assert steps(birds, "fowl") == [("promote", None, 1), ("promote", 1, 2), ("promote", 2, 3)]
    assert moves.rollback(birds, "fowl", why="").version == 2
    birds.create_registered_model("birds")
    assert len(steps(birds, "fowl")) == 4


def test_who_takes_the_name_of_a_renamed_model_begins_without_its_history(birds: MlflowClient) -> None:
    for version in (1, 2):
        moves.promote(birds, "birds", version, why="")
    source = birds.get_model_version_download_uri("birds", "1")
    birds.rename_registered_model("birds", "fowl")
    birds.create_registered_model("birds")
    birds.create_model_version("birds", source)
    moves.notice(birds, "birds")
    assert steps(birds) == []
    moves.promote(birds, "birds", 1, why="")
    assert steps(birds) == [("promote", None, 1)] and ledger.missed(moves.full_history(birds, "birds")) == []
    assert steps(birds, "fowl") == [("promote", None, 1), ("promote", 1, 2)]
    birds.delete_registered_model("fowl")
    assert [move.action for move in moves.history(birds, "birds")] == ["promote"]


def test_a_model_begun_anew_knows_of_the_one_before_and_does_not_roll_back_to_it(
    birds: MlflowClient, fill: Fill
) -> None:
    for version in (1, 2):
        moves.promote(birds, "birds", version, why="")
    sources = [birds.get_model_version_download_uri("birds", str(number)) for number in (1, 2)]
    birds.delete_registered_model("birds")
    birds.create_registered_model("birds")
    for source in sources:
        birds.create_model_version("birds", source)
    moves.promote(birds, "birds", 2, why="")
    assert steps(birds) == [("promote", None, 1), ("promote", 1, 2), ("outside", 2, None), ("promote", None, 2)]
    assert [move.action for move in moves.history(birds, "birds")] == ["promote"]
    with pytest.raises(RegistryError, match="no earlier champion"):
        moves.rollback(birds, "birds", why="")


def test_history_of_old_is_taken_over_by_who_looks_at_it(birds: MlflowClient) -> None:
    old = [
        Move("promote", 1, None, "ada", "2026-01-01T00:00:00.0Z", "a"),
        Move("promote", 2, 1, "bob", "2026-02-01T00:00:00.0Z", "b"),
    ]
    for move in old:
        told = {
            key: value
            for key, value in asdict(move).items()
            if key in ("action", "version", "previous", "who", "when", "why")
        }
        birds.set_registered_model_tag("birds", f"move.{move.when}", json.dumps(told))
    birds.set_registered_model_alias("birds", "champion", "2")
    before = steps(birds)
    assert before == [("promote", None, 1), ("promote", 1, 2)] and numbers(birds) == []
    moves.notice(birds, "birds")
    assert steps(birds) == before and numbers(birds) == [1, 2]
    moves.promote(birds, "birds", 3, why="")
    assert steps(birds) == [*before, ("promote", 2, 3)] and numbers(birds) == [1, 2, 3]
    assert not ledger.tagged(get_model(birds, "birds"))
    assert [move.who for move in moves.history(birds, "birds")[:2]] == ["ada", "bob"]


TODAY = json.dumps(asdict(Move("promote", 1, None, "ada", "today", "")))


@pytest.mark.parametrize("text", ["production", "[]", "3", "{}", '{"when": 5}', TODAY])
def test_what_somebody_wrote_into_a_tag_is_no_move_and_stops_none(birds: MlflowClient, text: str) -> None:
    moves.promote(birds, "birds", 1, why="")
    birds.set_registered_model_tag("birds", "move.to", text)
    birds.set_registered_model_tag("birds", "moving", text)
    birds.set_registered_model_alias("birds", "champion", "2")
    birds.set_model_version_tag(ledger.SERIES.name, "1", "entry", text)
    assert steps(birds) == [("outside", None, 2)]
    moves.promote(birds, "birds", 3, why="")
    assert steps(birds) == [("outside", None, 2), ("promote", 2, 3)]
    model = get_model(birds, "birds")
    assert model.tags["move.to"] == text and "moving" not in model.tags
    moves.notice(birds, "birds")


def test_an_entry_that_somebody_deletes_is_missed(birds: MlflowClient) -> None:
    for version in (1, 2, 3):
        moves.promote(birds, "birds", version, why="")
    assert ledger.missed(moves.history(birds, "birds")) == []
    birds.delete_model_version(ledger.SERIES.name, "2")
    assert ledger.missed(moves.history(birds, "birds")) == [2]


def test_an_entry_written_twice_is_one(birds: MlflowClient) -> None:
    moves.promote(birds, "birds", 1, why="")
    [row] = birds.search_model_versions(f"name = '{ledger.SERIES.name}'")
    birds.create_model_version(ledger.SERIES.name, "headstart:/ledger", tags=row.tags)  # as a repeated request does
    moves.promote(birds, "birds", 2, why="")
    assert steps(birds) == [("promote", None, 1), ("promote", 1, 2)]
    assert ledger.missed(moves.history(birds, "birds")) == []


def test_a_reason_is_kept_whole_or_not_taken(birds: MlflowClient) -> None:
    moves.promote(birds, "birds", 1, why="é" * moves.LONGEST_WHY)
    assert moves.history(birds, "birds")[0].why == "é" * moves.LONGEST_WHY
    with pytest.raises(RegistryError, match="2,001 signs, of which 2,000 are kept"):
        moves.promote(birds, "birds", 2, why="é" * (moves.LONGEST_WHY + 1))


def test_what_was_done_by_other_means_is_written_down_by_who_notices(birds: MlflowClient) -> None:
    moves.promote(birds, "birds", 1, why="")
    birds.delete_model_version("birds", "1")
    moves.notice(birds, "birds")
    first = moves.history(birds, "birds")
    assert [move.number for move in first] == [1, 2] and first[1].why == "version 1 was deleted outside headstart"
    moves.notice(birds, "birds")
    assert moves.history(birds, "birds") == first


def test_moves_of_two_models_are_kept_apart(birds: MlflowClient, fill: Fill) -> None:
    fill(birds, "ada's birds", 1)
    moves.promote(birds, "birds", 1, why="")
    moves.promote(birds, "ada's birds", 1, why="")
    with turn(birds, "birds"):
        moves.settle(birds, "birds")
    assert steps(birds) == steps(birds, "ada's birds") == [("promote", None, 1)]
