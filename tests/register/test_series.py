"""A registry that gives out no number says why."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from tasks.errors import RegistryError
from tasks.register.series import Series, draw

SERIES = Series(".headstart-some", "", "headstart:/")


class Refusing:
    """A registry that takes nothing."""

    def __init__(self, message: str) -> None:
        self.message = message

    def create_model_version(self, *_: Any, **__: Any) -> None:
        raise MlflowException(self.message, 3)  # permission denied, in MLflow's numbers


@pytest.mark.parametrize(
    ("message", "told"), [("no writing here\nfor you", "no writing here"), ("", "MlflowException")]
)
def test_what_the_registry_says_is_told_in_a_line_and_its_kind_where_it_says_nothing(message: str, told: str) -> None:
    client: Any = Refusing(message)
    with pytest.raises(RegistryError, match=rf"takes no changes to model 'birds' \({told}\)"):
        draw(client, SERIES, {}, "birds")
