"""Domains of one covariance."""

from __future__ import annotations

from typing import Literal

from tasks.train.adaptation.method import ByTerm


class DeepCoral(ByTerm):
    """Domain adaptation: the hidden layer has the same covariance in both domains (Deep CORAL)."""

    method: Literal["deep_coral"] = "deep_coral"
