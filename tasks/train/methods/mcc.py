"""Minimum class confusion."""

from __future__ import annotations

from typing import Literal

from tasks.train.adaptation.method import ByTerm


class Mcc(ByTerm):
    """Domain adaptation: answers on the target do not waver between classes (MCC)."""

    method: Literal["mcc"] = "mcc"
