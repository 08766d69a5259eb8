"""No part of the images on which a version is worse than the champion."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.evaluate.config import Slice
from tasks.register.gating import Evidence, Finding, Gate


class Slices(Gate):
    """A version is worse than the champion on no declared part of the validation images, however much better on
    average: one domain, one class; where numbers are told, by their mean absolute error. p-values are raised for so
    many parts (Holm 1979)."""

    gate: Literal["slices"] = "slices"
    by: list[Slice | Literal["class", "value"]] = Field(default=["domain"], min_length=1)
    """What parts are by: kinds of `evaluate.slices`, or `class`; of a number, `value` (small, middle, large)."""
    level: float = Field(default=0.05, gt=0, lt=1)
    """p-value below which a part counts as worse."""

    def measure(self, evidence: Evidence) -> Finding:
        from tasks.register.parts import worse_parts

        return worse_parts(evidence.comparison, self.by, self.level)
