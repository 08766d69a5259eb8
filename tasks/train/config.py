"""The ``train`` section of a configuration: whichever method it names."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Discriminator, Tag, ValidationError
from pydantic_core import PydanticCustomError

from tasks.train.method import Method, no_method
from tasks.train.methods import METHODS
from tasks.train.methods.auto import Auto

DEFAULT = "linear"


def _name_of(section: Any) -> str:
    """The method that a section is meant for."""
    given = section.get("method", DEFAULT) if isinstance(section, dict) else getattr(section, "method", DEFAULT)
    return str(given)


def _search_known(section: Method) -> Method:
    """Refuse a search among methods that there are not; a section knows no method but its own."""
    key, named = section.tried
    known = [name for name, kind in METHODS.items() if not issubclass(kind, Auto)]
    for name in named:
        if name not in known:
            wrong = PydanticCustomError("no_method", no_method(name, known))  # type: ignore[arg-type]
            raise ValidationError.from_exception_data(
                "train", [{"type": wrong, "loc": tuple(key.split(".")), "input": named}]
            )
    return section


_kinds: list[Any] = [Annotated[kind, Tag(name)] for name, kind in METHODS.items()]
if TYPE_CHECKING:
    TrainConfig = Method
else:
    TrainConfig = Annotated[reduce(or_, _kinds), Discriminator(_name_of), AfterValidator(_search_known)]
