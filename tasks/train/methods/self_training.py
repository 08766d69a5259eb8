"""Learning from one's own sure answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.train.adaptation.method import ByTerm

if TYPE_CHECKING:
    from tasks.train.adaptation.terms import Term


class SelfTraining(ByTerm):
    """Domain adaptation: sure answers on the target are learned from as if they were labels."""

    method: Literal["self_training"] = "self_training"
    confidence: float = Field(default=0.8, gt=0, lt=1)
    """Probability from which on an answer is sure."""

    def term(self, classes: int) -> Term:
        from tasks.train.adaptation.terms import PseudoLabels

        return PseudoLabels(self.confidence)
