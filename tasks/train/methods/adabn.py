"""Each domain standardised by its own statistics."""

from __future__ import annotations

from typing import ClassVar, Literal

from tasks.train.adaptation.method import Adaptation


class AdaBn(Adaptation):
    """Domain adaptation: nothing but the target's own mean and deviation of each feature (AdaBN, Li et al. 2017,
    "Revisiting batch normalization for practical domain adaptation")."""

    method: Literal["adabn"] = "adabn"
    statistics_only: ClassVar[bool] = True
