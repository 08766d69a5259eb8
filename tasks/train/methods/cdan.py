"""Conditional adversarial domain adaptation."""

from __future__ import annotations

from typing import Literal

from tasks.train.adaptation.method import ByTerm


class Cdan(ByTerm):
    """Domain adaptation: domains cannot be told apart by hidden layer and answer together (CDAN+E)."""

    method: Literal["cdan"] = "cdan"
