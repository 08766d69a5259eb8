"""The gate, and moves of the alias that can be told and undone."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient

from tasks.errors import RegistryError
from tasks.register import registry
from tasks.register.config import RegisterConfig
from tasks.register.door import assign_alias
from tasks.workspace import Workspace


@pytest.fixture
def client(workspace: Workspace) -> MlflowClient:
    workspace.mlruns.mkdir()
    client = MlflowClient(workspace.tracking_uri)
    client.create_registered_model("birds")
    for score in (0.90, 0.92, 0.92):
        client.create_model_version("birds", workspace.root.as_uri(), tags={registry.SCORE: repr(score)})
    return client


def champion(client: MlflowClient) -> int:
    return int(client.get_model_version_by_alias("birds", "champion").version)


def test_the_gate_lets_through_what_is_not_worse(client: MlflowClient) -> None:
    assert registry.judge(0.1, None)[0]
    reigning = client.get_model_version("birds", "1")
    for score, passed in ((0.91, True), (0.90, True), (0.8999, False)):
        verdict = registry.judge(score, reigning)
        assert verdict[0] is passed and "0.9000" in verdict[1]


def test_the_verdict_names_the_figure_and_unlike_figures_are_not_compared(client: MlflowClient) -> None:
    reigning = client.get_model_version("birds", "1")  # of old: its tags do not name its figure
    assert registry.judge(0.91, reigning)[1] == "passed: validation accuracy 0.9100, champion (version 1) 0.9000"
    passed, verdict = registry.judge(0.99, reigning, "average precision")
    assert not passed and verdict == (
        "held back: validation average precision 0.9900 cannot be compared with accuracy, champion (version 1) 0.9000"
    )
    tags = {registry.SCORE: "0.5", registry.FIGURE: "average precision"}
    several = client.create_model_version("birds", "file:///nowhere", tags=tags)
    assert registry.judge(0.4, several, "average precision") == (
        False, "held back: validation average precision 0.4000, champion (version 4) 0.5000",
    )  # fmt: skip
    assert registry.judge(0.5, several, "average precision")[0] and not registry.judge(0.99, several)[0]


def test_a_new_version_of_another_kind_waits_as_challenger(client: MlflowClient) -> None:
    registry.promote(client, "birds", 1, why="")
    version = client.get_model_version("birds", "2")
    alias, verdict = assign_alias(client, "birds", version, 0.99, RegisterConfig(), "average precision")
    assert alias == "challenger" and "average precision" in verdict and champion(client) == 1
    assert assign_alias(client, "birds", version, 0.99, RegisterConfig())[0] == "champion" and champion(client) == 2


def test_rolling_back_twice_goes_back_two_steps_and_all_is_written_down(client: MlflowClient) -> None:
    for version in (1, 2, 3):
        registry.promote(client, "birds", version, why=f"try {version}", who="ada")
    registry.rollback(client, "birds", why="no", who="bob")
    assert champion(client) == 2
    registry.rollback(client, "birds", why="neither", who="bob")
    assert champion(client) == 1
    moves = registry.history(client, "birds")
    assert [(move.action, move.previous, move.version) for move in moves] == [
        ("promote", None, 1), ("promote", 1, 2), ("promote", 2, 3), ("rollback", 3, 2), ("rollback", 2, 1),
    ]  # fmt: skip
    assert moves[-1].who == "bob" and moves[-1].why == "neither" and moves[-1].when.startswith("20")
    with pytest.raises(RegistryError, match="no earlier champion"):
        registry.rollback(client, "birds", why="")


def test_a_promoted_challenger_is_challenger_no_more(client: MlflowClient) -> None:
    registry.promote(client, "birds", 1, why="")
    client.set_registered_model_alias("birds", "challenger", "2")
    registry.promote(client, "birds", "challenger", why="")
    assert registry.get_model(client, "birds").aliases.keys() == {"champion"}
    assert champion(client) == 2


def test_what_is_not_there_is_told_with_what_is(client: MlflowClient) -> None:
    with pytest.raises(RegistryError, match="no registered model 'bird'; there are: birds"):
        registry.promote(client, "bird", 1, why="")
    with pytest.raises(RegistryError, match="no version or alias 7; versions: 1, 2, 3; aliases: none"):
        registry.promote(client, "birds", 7, why="")
    registry.promote(client, "birds", 1, why="")
    with pytest.raises(RegistryError, match="is the champion already"):
        registry.promote(client, "birds", 1, why="")
