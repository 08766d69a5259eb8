"""Domains of one distribution, by their maximum mean discrepancy."""

from __future__ import annotations

from typing import Literal

from tasks.train.adaptation.method import ByTerm


class Dan(ByTerm):
    """Domain adaptation: the hidden layer is distributed alike, by the mean discrepancy under several kernels (DAN)."""

    method: Literal["dan"] = "dan"
