"""What a gate says of a version, and what several say together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

Outcome = Literal["pass", "needs approval", "reject"]
ORDER: tuple[Outcome, ...] = ("pass", "needs approval", "reject")
"""From the best to the worst."""


class Ruling(BaseModel):
    """The word of one gate.

    Attributes:
        gate: its name.
        threshold, measured: what was asked for and what was found, in words; empty where there is no such thing.
        reason: why, in one line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gate: str
    outcome: Outcome
    threshold: str = ""
    measured: str = ""
    reason: str


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The verdict of several gates; of none, `pass`."""
    return max(outcomes, key=ORDER.index, default="pass")
