"""What is to be told of an image: one task of perhaps several, each a class, several labels or a number."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["class", "labels", "number"]
"""``class``: one of several; ``labels``: any of several; ``number``: a quantity."""

LABEL = "label"
"""The manifest's column of the first task, and its name where it has no other."""


class Target(BaseModel):
    """A task. The first one of a dataset leads: splits, choices, gates and the champion go by it.

    Attributes:
        name: as the configuration has it.
        column: of the manifest: ``label`` of the first task, ``label:NAME`` of others. A cell is a str, a list of str
            or a float64, null where the image has no label of this task.
        classes: in the order of the model's outputs; none of a number.
        unit: of a number, as people write it.
        images: that have a label of this task, by split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = LABEL
    column: str = LABEL
    kind: Kind = "class"
    classes: tuple[str, ...] = ()
    unit: str = ""
    images: dict[str, int] = {}


def one_task(classes: tuple[str, ...], multi_label: bool = False) -> tuple[Target, ...]:
    """A dataset's tasks where there is but one, of classes."""
    return (Target(kind="labels" if multi_label else "class", classes=classes),)
