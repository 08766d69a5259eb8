"""A registry that gives out no number says why."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, RESOURCE_ALREADY_EXISTS

from tasks.errors import RegistryError
from tasks.register.series import Series, draw

SERIES = Series(".headstart-some", "", "headstart:/")


class Refusing:
    """A registry that takes nothing."""

    def __init__(self, message: str) -> None:
        self.message = message

    def create_model_version(self, *_: Any, **__: Any) -> None:
        raise MlflowException(self.message, PERMISSION_DENIED)

    def create_registered_model(self, *_: Any, **__: Any) -> None:
        raise MlflowException("it exists", RESOURCE_ALREADY_EXISTS)


class Guarded:
    """A registry that says of what is not there that nobody may see it, as MLflow's basic-auth does."""

    def __init__(self) -> None:
        self.series: list[str] = []

    def create_model_version(self, name: str, *_: Any, **__: Any) -> ModelVersion:
        if name not in self.series:
            raise MlflowException("Permission denied", PERMISSION_DENIED)
        return ModelVersion(name, "1", 0)

    def create_registered_model(self, name: str, **_: Any) -> None:
        self.series.append(name)


def test_a_series_is_begun_where_nobody_may_know_whether_it_is_there() -> None:
    client: Any = Guarded()
    assert draw(client, SERIES, {}, "birds") == 1 and client.series == [SERIES.name]


@pytest.mark.parametrize(
    ("message", "told"), [("no writing here\nfor you", "no writing here"), ("", "MlflowException")]
)
def test_what_the_registry_says_is_told_in_a_line_and_its_kind_where_it_says_nothing(message: str, told: str) -> None:
    client: Any = Refusing(message)
    with pytest.raises(RegistryError, match=rf"takes no changes to model 'birds' \({told}\)"):
        draw(client, SERIES, {}, "birds")
