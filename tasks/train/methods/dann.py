"""Domain-adversarial training."""

from __future__ import annotations

from typing import Literal

from tasks.train.adaptation.method import Adaptation


class Dann(Adaptation):
    """Domain adaptation: domains cannot be told apart by the hidden layer (DANN)."""

    method: Literal["dann"] = "dann"
