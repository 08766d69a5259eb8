"""What a packaged model tells of an image: its tasks, and the columns of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

from tasks.train.kinds import Answer

if TYPE_CHECKING:
    from tasks.target import Target

REACH = NormalDist().inv_cdf(0.95)
"""Standard deviations on either side of a number within which nine of ten lie."""

Cell = Literal["text", "texts", "number", "top"]
"""Of an answer: a str, a list of str, a float, or a list of label and probability."""


@dataclass(frozen=True)
class Told:
    """A task, as a package notes it; see `tasks.target.Target`."""

    name: str = "label"
    kind: Answer = "class"
    classes: tuple[str, ...] = ()
    unit: str = ""

    @classmethod
    def of(cls, target: Target) -> Told:
        """A task of a dataset."""
        return cls(target.name, target.kind, target.classes, target.unit)

    @classmethod
    def read(cls, noted: dict[str, Any]) -> Told:
        """As it is noted in JSON."""
        return cls(**noted | {"classes": tuple(noted["classes"])})


def columns_of(told: Sequence[Told]) -> dict[str, Cell]:
    """The columns of an answer, in their order.

    Of the leading task these are ``label`` (the likeliest), ``probability`` and ``top_k``, with several labels an image
    also ``labels``, those that it is given; of a number ``value``, and ``low`` and ``high``, between which nine of ten
    lie. Of any other task: its name and, with ``_probability`` behind it, of a class, or ``_low`` and ``_high``, of a
    number.
    """
    leading, *further = told
    columns: dict[str, Cell] = {"label": "text", "probability": "number", "top_k": "top"}
    if leading.kind == "labels":
        columns["labels"] = "texts"
    if leading.kind == "number":
        columns = {"value": "number", "low": "number", "high": "number"}
    for each in further:
        columns |= _beside(each)
    return columns


def _beside(told: Told) -> dict[str, Cell]:
    name = told.name
    match told.kind:
        case "class":
            return {name: "text", f"{name}_probability": "number"}
        case "labels":
            return {name: "texts"}
        case "number":
            return {name: "number", f"{name}_low": "number", f"{name}_high": "number"}
