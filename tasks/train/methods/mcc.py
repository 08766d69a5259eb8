"""Minimum class confusion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tasks.train.adaptation.method import Adaptation

if TYPE_CHECKING:
    from tasks.train.adaptation.terms import Term


class Mcc(Adaptation):
    """Domain adaptation: answers on the target do not waver between classes (MCC)."""

    method: Literal["mcc"] = "mcc"

    def term(self, classes: int) -> Term:
        from tasks.train.adaptation.terms import Confusion

        return Confusion()
