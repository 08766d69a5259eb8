"""The record of those that a candidate learns from, beside the images and their labels."""

from __future__ import annotations

from tasks.place import Place
from tasks.record import Record
from tasks.records import FeatureSet
from tasks.rival import Rival


def name_of(version: Rival) -> str:
    """By which a version is found again: NAME@NUMBER, or the folder that it was found as."""
    return f"{version.name}@{version.version}" if version.version else version.name


class Teachers(Record):
    """Registered versions that a candidate learns from.

    Attributes:
        versions: as those are that a candidate is held against.
        heads: the file of each.
        features: of each, what its backbone sees in all images of the candidate's dataset, those of the pool as well.
    """

    versions: tuple[Rival, ...]
    heads: tuple[Place, ...]
    features: tuple[FeatureSet, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """By which each is found again."""
        return tuple(map(name_of, self.versions))
