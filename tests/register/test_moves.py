"""Moves of the alias that can be told and undone, whatever happens in the middle of one."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from mlflow import MlflowClient

from tasks.errors import RegistryError
from tasks.progress import watched_by
from tasks.register import ledger, moves
from tasks.register.registry import all_models, get_model
from tasks.register.turns import turn
from tasks.workspace import Workspace
from tests.flows.homes import eventually
from tests.register import apart
from tests.register.conftest import Fill

STEPS = 7
"""Changes to the store that a promotion of a challenger makes: a ticket drawn, announced, moved, written down, no
announcement and no challenger any more, the ticket given back."""


@pytest.fixture
def birds(either: MlflowClient, fill: Fill) -> MlflowClient:
    fill(either, "birds", 3)
    return either


class Told:
    """What is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, line: str) -> None:
        self.lines.append(line)

    def begin(self, what: str, total: int, unit: str) -> int:
        return 0

    def advance(self, bar: int, count: int) -> None: ...

    def end(self, bar: int) -> None: ...


def champion(client: MlflowClient, name: str = "birds") -> int | None:
    version = get_model(client, name).aliases.get("champion")
    return int(version) if version else None


def steps(client: MlflowClient, name: str = "birds") -> list[tuple[str, int | None, int | None]]:
    return [(move.action, move.previous, move.version) for move in moves.history(client, name)]


def settle(client: MlflowClient, name: str = "birds") -> list[str]:
    told = Told()
    with watched_by(told), turn(client, name):
        moves.settle(client, name)
    return told.lines


def test_rolling_back_twice_goes_back_two_steps_and_all_is_written_down(birds: MlflowClient) -> None:
    for version in (1, 2, 3):
        moves.promote(birds, "birds", version, why=f"try {version}", who="ada")
    moves.rollback(birds, "birds", why="no", who="bob")
    assert champion(birds) == 2
    moves.rollback(birds, "birds", why="neither", who="bob")
    assert champion(birds) == 1
    assert steps(birds) == [
        ("promote", None, 1), ("promote", 1, 2), ("promote", 2, 3), ("rollback", 3, 2), ("rollback", 2, 1),
    ]  # fmt: skip
    last = moves.history(birds, "birds")[-1]
    assert last.who == "bob" and last.why == "neither" and last.when.startswith("20")
    with pytest.raises(RegistryError, match="no earlier champion"):
        moves.rollback(birds, "birds", why="")


def test_a_promoted_challenger_is_challenger_no_more(birds: MlflowClient) -> None:
    moves.promote(birds, "birds", 1, why="")
    birds.set_registered_model_alias("birds", "challenger", "2")
    moves.promote(birds, "birds", "challenger", why="")
    assert get_model(birds, "birds").aliases.keys() == {"champion"}
    assert champion(birds) == 2


def test_what_is_not_there_is_told_with_what_is(birds: MlflowClient) -> None:
    with pytest.raises(RegistryError, match=r"no registered model 'bird'; there are: birds$"):
        moves.promote(birds, "bird", 1, why="")
    with pytest.raises(RegistryError, match="no version or alias 7; versions: 1, 2, 3; aliases: none"):
        moves.promote(birds, "birds", 7, why="")
    moves.promote(birds, "birds", 1, why="")
    with pytest.raises(RegistryError, match="is the champion already"):
        moves.promote(birds, "birds", 1, why="")
    with pytest.raises(RegistryError, match=r"there are: birds$"):  # and not the tickets
        moves.rollback(birds, "bird", why="")


def test_a_move_made_by_other_means_is_written_down_and_roll_back_goes_where_it_came_from(birds: MlflowClient) -> None:
    moves.promote(birds, "birds", 1, why="")
    birds.set_registered_model_alias("birds", "champion", "3")
    assert steps(birds) == [("promote", None, 1), ("outside", 1, 3)]  # told by whoever reads, too
    moves.promote(birds, "birds", 2, why="")
    birds.delete_registered_model_alias("birds", "champion")
    [said] = settle(birds)
    assert "champion was removed outside headstart" in said and settle(birds) == []
    assert steps(birds) == [("promote", None, 1), ("outside", 1, 3), ("promote", 3, 2), ("outside", 2, None)]
    for wanted in (2, 3, 1):
        moves.rollback(birds, "birds", why="")
        assert champion(birds) == wanted


def test_a_champion_of_other_means_from_the_first_on_can_be_followed_and_gone_back_to(birds: MlflowClient) -> None:
    birds.set_registered_model_alias("birds", "champion", "2")
    with pytest.raises(RegistryError, match="no earlier champion"):
        moves.rollback(birds, "birds", why="")
    moves.promote(birds, "birds", 3, why="")
    assert moves.rollback(birds, "birds", why="").version == 2 == champion(birds)


def test_roll_back_to_a_deleted_version_names_the_next_one_back(birds: MlflowClient) -> None:
    for version in (1, 2, 3):
        moves.promote(birds, "birds", version, why="")
    birds.delete_model_version("birds", "2")
    with pytest.raises(RegistryError, match=r"version 2 .*: it was deleted; the next one back is version 1: .*--to 1`"):
        moves.rollback(birds, "birds", why="")
    assert champion(birds) == 3
    assert moves.rollback(birds, "birds", why="", to=1).version == 1 == champion(birds)
    with pytest.raises(RegistryError, match="no earlier champion"):
        moves.rollback(birds, "birds", why="")


def test_roll_back_goes_only_to_what_was_champion(birds: MlflowClient) -> None:
    for version in (1, 3):
        moves.promote(birds, "birds", version, why="")
    for to in (2, 0):
        with pytest.raises(
            RegistryError, match=rf"version {to} of 'birds' was not champion before; those that were: 1$"
        ):
            moves.rollback(birds, "birds", why="", to=to)


def test_where_the_champion_itself_was_deleted_roll_back_goes_to_the_one_before(birds: MlflowClient) -> None:
    for version in (1, 2):
        moves.promote(birds, "birds", version, why="")
    birds.delete_model_version("birds", "2")
    assert moves.rollback(birds, "birds", why="").version == 1 == champion(birds)
    assert [move.why for move in moves.history(birds, "birds")][2] == "version 2 was deleted outside headstart"


def test_a_model_of_other_means_may_have_any_name(either: MlflowClient, fill: Fill) -> None:
    fill(either, "ada's birds", 2)
    for version in (1, 2):
        moves.promote(either, "ada's birds", version, why="")
    assert moves.rollback(either, "ada's birds", why="").version == 1 == champion(either, "ada's birds")


def test_what_has_lost_its_files_is_not_made_champion(birds: MlflowClient) -> None:
    for version in (1, 2):
        moves.promote(birds, "birds", version, why="")
    folders = {
        number: Path(urlparse(birds.get_model_version_download_uri("birds", str(number))).path) for number in (1, 3)
    }
    (folders[1] / "head.safetensors").unlink()
    shutil.rmtree(folders[3])
    with pytest.raises(RegistryError, match=r"version 3 has lost its files \(MLmodel, .*run its configuration again"):
        moves.promote(birds, "birds", 3, why="")
    with pytest.raises(RegistryError, match=r"version 1 .*\(head.safetensors in file:.*no other earlier champion"):
        moves.rollback(birds, "birds", why="")
    assert champion(birds) == 2


def test_a_clock_that_goes_after_another_does_not_change_the_order_of_moves(
    birds: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves.promote(birds, "birds", 1, why="")
    ahead = moves.Move("promote", 2, 1, "ada", "2999-12-31T23:59:59.999999Z", "her clock is ahead")
    ledger.add(birds, get_model(birds, "birds"), ahead, moves.history(birds, "birds"))
    birds.set_registered_model_alias("birds", "champion", "2")
    moves.promote(birds, "birds", 3, why="")
    assert steps(birds)[1:] == [("promote", 1, 2), ("promote", 2, 3)]
    assert moves.rollback(birds, "birds", why="").version == 2


@pytest.mark.slow
@pytest.mark.parametrize("way", ["mlflow", "rows"])
def test_wherever_a_promotion_is_killed_history_and_alias_agree_after_the_next_command(
    client: MlflowClient, fill: Fill, workspace: Workspace, way: str
) -> None:
    with turn(client, "the first turn makes the model whose versions are tickets"):
        pass
    for after in range(STEPS + 1):
        fill(client, f"birds-{after}", 3)
        first = moves.Move("promote", 1, None, "ada", "2026-01-01T00:00:00.0Z", "")
        ledger.add(client, get_model(client, f"birds-{after}"), first, [])
        client.set_registered_model_alias(f"birds-{after}", "champion", "1")
        client.set_registered_model_alias(f"birds-{after}", "challenger", "2")
    apart.run(workspace.tracking_uri, "dying", "birds", str(STEPS + 1), way)
    was, said = [], []
    for after in range(STEPS + 1):
        name = f"birds-{after}"
        before = steps(client, name)
        assert before[-1][2] == champion(client, name)  # whoever only reads is told what is
        was.append(champion(client, name))
        said.append(" ".join(settle(client, name)))
        assert steps(client, name) == before and champion(client, name) == was[-1]
        assert get_model(client, name).aliases.get("challenger") == (2 if was[-1] == 1 else None)
        assert all(move.who == "ada" and move.why == "a try" for move in moves.history(client, name)[1:])
        assert moves.promote(client, name, 3, why="").previous == was[-1]
    assert was == [1, 1, 1, 2, 2, 2, 2, 2]
    assert "ada had begun to move it to version 2 and was broken off" in said[2]
    assert "champion is version 2: ada had moved it" in said[3]
    assert [bool(line) for line in said] == [False, False, True, True, False, False, False, False]


@pytest.mark.slow
def test_of_ten_promotions_at_once_none_is_lost_and_the_last_on_record_is_where_the_alias_points(
    client: MlflowClient, fill: Fill, workspace: Workspace
) -> None:
    fill(client, "birds", 10)
    ways = [f"{version}:{'rows' if version % 2 else 'mlflow'}" for version in range(1, 11)]
    apart.run(workspace.tracking_uri, "crowd", "birds", *ways)
    made = moves.history(client, "birds")
    assert sorted(move.version for move in made if move.version) == list(range(1, 11))
    assert [move.previous for move in made] == [None, *(move.version for move in made[:-1])]
    assert made[-1].version == champion(client)
    assert [move.after for move in made] == [0, *(move.number for move in made[:-1])] and not ledger.missed(made)
    assert [model.name for model in all_models(client)] == ["birds"]


def test_a_move_made_while_the_version_is_looked_up_is_not_gone_over(
    birds: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = moves.get_version

    def moved_meanwhile(*which: Any) -> Any:
        found = look_up(*which)
        if champion(birds) is None:
            birds.set_registered_model_alias("birds", "champion", "3")  # by somebody else
        return found

    monkeypatch.setattr(moves, "get_version", moved_meanwhile)
    with pytest.raises(RegistryError, match="nothing was changed: champion of 'birds' was moved meanwhile"):
        moves.promote(birds, "birds", 2, why="")
    assert champion(birds) == 3


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(birds: MlflowClient) -> None:
    def promoted(version: int) -> str:
        try:
            return f"version {moves.promote(birds, 'birds', version, why='now', who='ada').version}"
        except RegistryError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        with turn(birds, "birds") as mine:  # both have asked before either may
            asked = [pool.submit(promoted, version) for version in (1, 2)]
            assert eventually(lambda: len(mine.check()) == 3)
        said = [each.result() for each in asked]
    winner, loser = sorted(said, key=len)
    assert winner == f"version {champion(birds)}" and len(steps(birds)) == 1
    assert f"moved meanwhile (champion none → {champion(birds)} (promote) by ada on" in loser
    assert "nothing was changed" in loser
