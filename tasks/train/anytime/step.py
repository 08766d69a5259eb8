"""One step of a run within a budget: as it is planned, and what came of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["probe", "rank", "head", "tune", "final"]
State = Literal["planned", "begun", "done", "left out", "failed"]


@dataclass(frozen=True)
class Step:
    """What is done, and what came of it.

    Attributes:
        kind: ``probe``, a linear head carried through to a registered version; ``rank``, a backbone scored on a sample;
            ``head``, a head fitted to features of all images; ``tune``, a short training through the backbone on a part
            of the images; ``final``, one on all of them.
        images: that are learned from.
        epochs: passes over them.
        level: of a tuning, how often its rivals have been halved; ``rivals``: how many there were at first.
        limit: seconds that a training may take; 0: as many as it needs.
        predicted, took: seconds of the step.
        expected, score: merit on the images that choices are made on, before and after.
        frozen: of a tuning, the merit of a linear head on the frozen features of the same images.
        judged: images that the merit is over.
        passed: images that a training came to in its time, each as often as it did, once that is known.
        may_be_best: of a rank, whether it ties with the first.
        milliseconds: of an image through the backbone, where the step has measured it.
        overhead: of a probe, seconds from its head to its registered version.
        fitted: of a head, the part of `took` that came after its features were there.
        why: the reason, in words.
    """

    kind: Kind
    backbone: str
    method: str = ""
    images: int = 0
    epochs: int = 0
    level: int = 0
    rivals: int = 0
    limit: float = 0.0
    predicted: float = 0.0
    expected: float = math.nan
    took: float = math.nan
    score: float = math.nan
    frozen: float = math.nan
    judged: int = 0
    passed: int = 0
    milliseconds: float = math.nan
    overhead: float = math.nan
    fitted: float = math.nan
    may_be_best: bool = False
    state: State = "planned"
    why: str = ""

    @property
    def is_over(self) -> bool:
        return self.state not in ("planned", "begun")

    @property
    def seen(self) -> int:
        """Images that a training passes, each as often as it does: as it came to or, before, as is planned."""
        return self.passed or self.images * self.epochs

    @property
    def gain(self) -> float:
        """By how much tuning is better than the frozen features of the same images."""
        return self.score - self.frozen

    def as_row(self) -> dict[str, Any]:
        return asdict(self)
