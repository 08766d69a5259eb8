"""Domains of one covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tasks.train.adaptation.method import Adaptation

if TYPE_CHECKING:
    from tasks.train.adaptation.terms import Term


class DeepCoral(Adaptation):
    """Domain adaptation: the hidden layer has the same covariance in both domains (Deep CORAL)."""

    method: Literal["deep_coral"] = "deep_coral"

    def term(self, classes: int) -> Term:
        from tasks.train.adaptation.terms import Correlation

        return Correlation()
