"""Conditional adversarial domain adaptation."""

from __future__ import annotations

from typing import Literal

from tasks.train.adaptation.method import Adaptation


class Cdan(Adaptation):
    """Domain adaptation: domains cannot be told apart by hidden layer and answer together (CDAN+E)."""

    method: Literal["cdan"] = "cdan"
