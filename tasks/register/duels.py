"""What a version says in its tags of how it stood against the champion, on the same images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache

from pydantic import TypeAdapter

from tasks.records import Comparison
from tasks.register.client import Version
from tasks.register.merits import ACCURACY, AVERAGE_PRECISION
from tasks.wording import quantity, signed

COMPARED = "compared"

ERROR = "mean absolute error"
"""Of which less is better."""

FIGURES = {"accuracy": ACCURACY, "average_precision_macro": AVERAGE_PRECISION, "mae": ERROR}
"""What versions are judged by, with one label an image, with several and with a number, and what it is called: the
first there is."""

NAMED = 50
"""Classes of a kind that are kept by name: MLflow refuses a tag of more than 100,000 signs."""


@dataclass(frozen=True)
class Duel:
    """A version against the champion of its time.

    Attributes:
        version: the champion's number.
        images: how many of ``split`` neither had learned from, or from nearly the same.
        figure: what both are judged by.
        difference: of ours less theirs, with the bounds of its 95% interval.
        new, gone: classes that only ours, or only theirs, knows; of many, the first `NAMED`.
        near: images that were left out since one of the two had learned from nearly the same.
        more_new, more_gone: how many more classes there are of either kind.
    """

    version: int
    split: str
    images: int
    figure: str
    ours: float
    theirs: float
    difference: float
    low: float
    high: float
    p: float
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    near: int = 0
    more_new: int = 0
    more_gone: int = 0

    @classmethod
    def fought(cls, comparison: Comparison | None) -> Duel | None:
        """On the images that choices are made on; None where there are none of these that the candidate has not learned
        from, or there was no champion."""
        if comparison is None or comparison.judged_on is None:
            return None
        split = comparison.judged_on
        figure = next(name for name in FIGURES if f"{split}/{name}" in comparison.metrics)
        return cls(
            comparison.version, split, comparison.images[split], FIGURES[figure],
            *comparison.metrics[f"{split}/{figure}"], comparison.p_values[split],
            comparison.new[:NAMED], comparison.gone[:NAMED], comparison.near.get(split, 0),
            len(comparison.new[NAMED:]), len(comparison.gone[NAMED:]),
        )  # fmt: skip

    @classmethod
    def of(cls, version: Version) -> Duel | None:
        """As a version's tags tell it; None where they do not, or somebody has edited them."""
        try:
            return _duels().validate_python(json.loads(version.tags[COMPARED]))
        except (KeyError, ValueError):
            return None

    @property
    def gain(self) -> tuple[float, float, float]:
        """By how much ours is better, with the bounds of the interval: of errors, by how much less they are."""
        if self.figure == ERROR:
            return 0 - self.difference, 0 - self.high, 0 - self.low  # no zero below 0
        return self.difference, self.low, self.high

    @property
    def tags(self) -> dict[str, str]:
        return {COMPARED: json.dumps(asdict(self), ensure_ascii=False)}

    def __str__(self) -> str:
        ours, theirs = map(self.spelt, (self.ours, self.theirs))
        difference, low, high = (signed(self.spelt(each)) for each in (self.difference, self.low, self.high))
        return (
            f"{self.figure} {ours}, champion (version {self.version}) {theirs} on the same "
            f"{self.images:,} {self.split} images: {difference} [{low}, {high}]"
        )

    def spelt(self, value: float) -> str:
        """A value in the digits that the figure has: of errors, those that count."""
        return quantity(value) if self.figure == ERROR else f"{value:.4f}"


@cache
def _duels() -> TypeAdapter[Duel]:
    """By which a tag is read: a value of another kind than it has to be is an error."""
    return TypeAdapter(Duel)
