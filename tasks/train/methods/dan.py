"""Domains of one distribution, by their maximum mean discrepancy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tasks.train.adaptation.method import Adaptation

if TYPE_CHECKING:
    from tasks.train.adaptation.terms import Term


class Dan(Adaptation):
    """Domain adaptation: the hidden layer is distributed alike, by the mean discrepancy under several kernels (DAN)."""

    method: Literal["dan"] = "dan"

    def term(self, classes: int) -> Term:
        from tasks.train.adaptation.terms import Discrepancy

        return Discrepancy()
