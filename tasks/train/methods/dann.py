"""Domain-adversarial training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tasks.train.adaptation.method import Adaptation

if TYPE_CHECKING:
    from tasks.train.adaptation.terms import Term


class Dann(Adaptation):
    """Domain adaptation: domains cannot be told apart by the hidden layer (DANN)."""

    method: Literal["dann"] = "dann"

    def term(self, classes: int) -> Term:
        from tasks.train.adaptation.terms import Adversary

        return Adversary(self.hidden)
