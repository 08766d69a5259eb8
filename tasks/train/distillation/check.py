"""Whether a registered model can teach what a dataset asks; without torch, as that is found out first."""

from __future__ import annotations

from tasks.errors import ConfigurationError
from tasks.records import Dataset
from tasks.rival import Rival
from tasks.target import Kind
from tasks.teachers import name_of
from tasks.wording import shorten

KINDS: dict[Kind, str] = {"class": "a class", "labels": "several labels an image", "number": "a number"}


def check_kind(teacher: Rival, kind: Kind, source: str) -> None:
    """Whether a teacher tells what is to be told of a source's images, as far as its package says.

    Raises:
        ConfigurationError: it tells something of another kind.
    """
    if teacher.targets and teacher.targets[0].kind != kind:
        raise ConfigurationError(
            f"the teacher {name_of(teacher)} (train.teacher) tells {KINDS[teacher.targets[0].kind]}, and what is to be "
            f"told of the images of {source} is {KINDS[kind]}: name another teacher"
        )


def check_classes(teacher: Rival, dataset: Dataset) -> None:
    """Whether a teacher knows every class that is to be learned; it may know others, too.

    Raises:
        ConfigurationError: it does not.
    """
    if unknown := [name for name in dataset.classes if name not in teacher.classes]:
        raise ConfigurationError(
            f"the teacher {name_of(teacher)} (train.teacher) does not know {shorten(unknown)}, of the "
            f"classes of {dataset.source}: name a teacher that knows them all, by the same names"
        )
