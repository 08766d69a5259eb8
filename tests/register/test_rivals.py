"""The champion that a candidate is held against: who is one, and what is no answer to that."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR, TEMPORARILY_UNAVAILABLE

from tasks.register import rivals
from tasks.register.rivals import find_rival
from tasks.workspace import Workspace
from tests.register.conftest import Fill


def test_there_is_no_rival_where_there_is_no_champion_or_none_that_can_be_looked_at(
    client: MlflowClient, workspace: Workspace, fill: Fill
) -> None:
    assert find_rival("fruit", "1", workspace) is None
    fill(client, "fruit", 2)
    assert find_rival("fruit", "1", workspace) is None
    client.set_registered_model_alias("fruit", "champion", "1")
    assert find_rival("fruit", "1", workspace) is None, "it is the candidate itself"
    client.create_model_version("fruit", "file:///nowhere")
    client.create_model_version("fruit", "file:///nowhere", tags={"candidate": "4"})
    for number in ("3", "4"):  # of other means, and without files
        client.set_registered_model_alias("fruit", "champion", number)
        assert find_rival("fruit", "1", workspace) is None


def test_the_version_that_has_the_alias_is_the_rival(
    client: MlflowClient, workspace: Workspace, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(client, "fruit", 2)
    client.set_registered_model_alias("fruit", "champion", "1")
    monkeypatch.setattr(rivals, "_rival", lambda *found: found[:2])
    assert find_rival("fruit", "2", workspace) == ("fruit", 1)


@pytest.mark.parametrize("code", [TEMPORARILY_UNAVAILABLE, INTERNAL_ERROR, BAD_REQUEST])
@pytest.mark.parametrize("asked", ["get_registered_model", "get_model_version"])
def test_a_registry_that_does_not_answer_has_not_said_that_there_is_no_champion(
    asked: str, code: int, client: MlflowClient, workspace: Workspace, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(client, "fruit", 1)
    client.set_registered_model_alias("fruit", "champion", "1")

    def fail(*_: Any) -> None:
        raise MlflowException("database is locked", code)

    for method in (asked, "get_model_version_by_alias"):
        monkeypatch.setattr(MlflowClient, method, fail)
    with pytest.raises(MlflowException, match="database is locked"):
        find_rival("fruit", "2", workspace)
