"""What is to be told of an image: one task of perhaps several, each a class, several labels or a number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["class", "labels", "number"]
"""``class``: one of several; ``labels``: any of several; ``number``: a quantity."""

BLIND = {
    "class": "always naming the commonest class", "labels": "images in any order", "number": "always telling the mean",
}  # fmt: skip
"""Answers that have not looked at the image, by the kind of the task."""

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


def chance(kind: Kind, counts: Iterable[float], images: int) -> float:
    """What such an answer gets: of a class its accuracy; of labels the average precision, the mean over the classes
    that occur; of a number R².

    Args:
        counts: of each class, how many of so many images have it.
    """
    there = [count for count in counts if count]
    if kind == "number" or not there:
        return 0.0
    share = sum(there) / len(there) if kind == "labels" else max(there)
    return share / images
