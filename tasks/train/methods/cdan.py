"""Conditional adversarial domain adaptation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tasks.train.adaptation.method import Adaptation

if TYPE_CHECKING:
    from tasks.train.adaptation.terms import Term


class Cdan(Adaptation):
    """Domain adaptation: domains cannot be told apart by hidden layer and answer together (CDAN+E)."""

    method: Literal["cdan"] = "cdan"

    def term(self, classes: int) -> Term:
        from tasks.train.adaptation.terms import ConditionalAdversary

        return ConditionalAdversary(self.hidden, classes)
