"""Versions that wait for a person: approved, rejected, and what is said of those that do not wait."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mlflow import MlflowClient

from tasks.errors import RegistryError
from tasks.register import approval, moves
from tasks.register.approval import APPROVAL, PENDING, approve, reject, waiting
from tasks.register.registry import get_model
from tests.register.conftest import Fill


def aliases(client: MlflowClient) -> dict[str, int]:
    return {alias: int(number) for alias, number in get_model(client, "fruit").aliases.items()}


@pytest.fixture
def fruit(either: MlflowClient, fill: Fill) -> MlflowClient:
    """Version 1 is champion, 2 and 3 wait."""
    fill(either, "fruit", 3)
    moves.promote(either, "fruit", 1, "", "ada")
    for number in ("2", "3"):
        either.set_model_version_tag("fruit", number, APPROVAL, PENDING)
    either.set_registered_model_alias("fruit", "challenger", "3")
    return either


def numbers(client: MlflowClient) -> list[int]:
    return [int(version.version) for version in waiting(client)]


def test_what_is_approved_is_champion_and_who_did_it_is_kept(fruit: MlflowClient) -> None:
    assert numbers(fruit) == [2, 3]
    move = approve(fruit, "fruit", "challenger", "better at night", "bob")
    assert (move.version, move.previous, move.who, move.why) == (3, 1, "bob", "better at night")
    assert aliases(fruit) == {"champion": 3} and numbers(fruit) == [2]
    kept = json.loads(fruit.get_model_version("fruit", "3").tags[APPROVAL])
    assert kept == {"answer": "approved", "who": "bob", "when": move.when, "why": "better at night"}
    for again in (approve, reject):
        with pytest.raises(RegistryError, match=r"does not wait any more: it was approved by bob on .*night"):
            again(fruit, "fruit", 3, "")


@pytest.mark.parametrize("decide", [approve, reject, moves.promote])
def test_an_alias_that_moves_while_one_waits_for_the_turn_decides_on_nothing_else(
    fruit: MlflowClient, monkeypatch: pytest.MonkeyPatch, decide: Any
) -> None:
    module = moves if decide is moves.promote else approval
    settle = module.settle

    def moved(*given: Any) -> None:
        settle(*given)
        fruit.set_registered_model_alias("fruit", "challenger", "2")  # by a run that had the turn

    monkeypatch.setattr(module, "settle", moved)
    decide(fruit, "fruit", "challenger", "as I saw it", "bob")
    assert 2 in numbers(fruit) and aliases(fruit)["champion"] == (1 if decide is reject else 3)


def test_what_is_rejected_has_no_alias_and_the_champion_stays(fruit: MlflowClient) -> None:
    assert reject(fruit, "fruit", 3, "too slow", "bob").answer == "rejected"
    assert aliases(fruit) == {"champion": 1} and numbers(fruit) == [2]
    with pytest.raises(RegistryError, match=r"it was rejected by bob on .* \(too slow\)"):
        approve(fruit, "fruit", 3, "")
    moves.promote(fruit, "fruit", 3, "after all", "cleo")
    assert aliases(fruit) == {"champion": 3}


def test_what_a_person_promotes_by_other_means_does_not_wait_any_more(fruit: MlflowClient) -> None:
    moves.promote(fruit, "fruit", 2, "by hand", "cleo")
    assert numbers(fruit) == [3]
    with pytest.raises(RegistryError, match="it was approved by cleo"):
        reject(fruit, "fruit", 2, "")


def test_an_approval_that_was_killed_before_it_was_written_down_is_one(
    fruit: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killing:
        killing.setattr(approval, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            approve(fruit, "fruit", 2, "yes", "bob")
    assert aliases(fruit)["champion"] == 2 and numbers(fruit) == [3]
    with pytest.raises(RegistryError, match="it was approved by bob"):
        approve(fruit, "fruit", 2, "")


@pytest.mark.parametrize("decide", [approve, reject])
@pytest.mark.parametrize("signs", [moves.LONGEST_WHY + 1, 120_000])
def test_a_reason_that_is_too_long_to_be_kept_decides_nothing(fruit: MlflowClient, decide: Any, signs: int) -> None:
    with pytest.raises(RegistryError, match=f"the reason has {signs:,} signs, of which 2,000 are kept"):
        decide(fruit, "fruit", 3, "x" * signs, "bob")
    assert aliases(fruit) == {"champion": 1, "challenger": 3} and numbers(fruit) == [2, 3]
    decide(fruit, "fruit", 3, "x" * moves.LONGEST_WHY, "bob")
    assert numbers(fruit) == [2]


def test_what_does_not_wait_is_named_with_those_that_do(fruit: MlflowClient) -> None:
    with pytest.raises(RegistryError, match=r"waits for nobody's approval; those that do: 2, 3\. "):
        approve(fruit, "fruit", 1, "")
    with pytest.raises(RegistryError, match="has no version or alias 9"):
        reject(fruit, "fruit", 9, "")
    with pytest.raises(RegistryError, match="no registered model 'nuts'"):
        approve(fruit, "nuts", 1, "")
