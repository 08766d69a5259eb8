"""Answers that are as good for one value of a column as for another."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.register.gating import Evidence, Finding, Gate


class Fairness(Gate):
    """Between no two values of a column of the data is the share of right answers on the held-out images further apart
    than a limit, by the interval of the difference, at a level raised for so many pairs. Values of fewer than 10 images
    are not looked at. It is for classes: where the leading task is a number, a configuration with it is refused."""

    gate: Literal["fairness"] = "fairness"
    column: Literal["domain", "group"] = "domain"
    """Column of the data whose values are held against each other."""
    recall: str | None = None
    """A class whose recall is looked at, instead of the share of right answers."""
    at_most: float = Field(default=0.1, ge=0, lt=1)
    """How far two values may be apart."""

    def measure(self, evidence: Evidence) -> Finding:
        from tasks.register.parts import widest_gap

        if evidence.dataset.target.kind == "number":
            return Finding(None, "fairness is for classes, and the leading task is a number")
        if self.recall is not None and self.recall not in evidence.dataset.classes:
            return Finding(None, f"there is no class {self.recall!r} whose recall could be looked at")
        return widest_gap(evidence, self.column, self.recall, self.at_most)
