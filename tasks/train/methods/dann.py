"""Domain-adversarial training."""

from __future__ import annotations

from typing import Literal

from tasks.train.adaptation.method import ByTerm


class Dann(ByTerm):
    """Domain adaptation: domains cannot be told apart by the hidden layer (DANN)."""

    method: Literal["dann"] = "dann"
