"""Minimum class confusion."""

from __future__ import annotations

from typing import Literal

from tasks.train.adaptation.method import Adaptation


class Mcc(Adaptation):
    """Domain adaptation: answers on the target do not waver between classes (MCC)."""

    method: Literal["mcc"] = "mcc"
