"""The ``train`` section of a configuration: whichever method it names."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Tag

from tasks.train.method import Method
from tasks.train.methods import METHODS

DEFAULT = "linear"


def _name_of(section: Any) -> str:
    """The method that a section is meant for."""
    given = section.get("method", DEFAULT) if isinstance(section, dict) else getattr(section, "method", DEFAULT)
    return str(given)


_kinds: list[Any] = [Annotated[kind, Tag(name)] for name, kind in METHODS.items()]
if TYPE_CHECKING:
    TrainConfig = Method
else:
    TrainConfig = Annotated[reduce(or_, _kinds), Discriminator(_name_of)]
