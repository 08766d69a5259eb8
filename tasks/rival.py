"""The record of a registered version that a candidate is held against, or learns from."""

from __future__ import annotations

from typing import Any

from tasks.place import Place
from tasks.record import Record
from tasks.target import Target


class Rival(Record):
    """A registered version that a candidate is held against: the champion. Its fingerprint is that of the candidate
    that it was registered as.

    Attributes:
        name, version: of the registered model; the folder and 0 where it was found as one.
        bundle: folder of its packaged classifier.
        classes: their names, in the order of its answers; targets: its tasks, where the package names them.
        data: the dataset version that it learned from.
        learned_from: the splits whose images it has seen the labels of.
        extraction, geometry: how it looks at images: the section ``extract``, and `Preprocessed.geometry`.
    """

    name: str
    version: int
    bundle: Place
    classes: tuple[str, ...]
    targets: tuple[Target, ...] = ()
    data: str
    learned_from: tuple[str, ...]
    extraction: dict[str, Any]
    geometry: dict[str, Any]
