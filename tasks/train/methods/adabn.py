"""Each domain standardised by its own statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tasks.train.adaptation.method import Adaptation

if TYPE_CHECKING:
    from tasks.train.adaptation.domains import Domains, Learned


class AdaBn(Adaptation):
    """Domain adaptation: nothing but the target's own mean and deviation of each feature (AdaBN, Li et al. 2017,
    "Revisiting batch normalization for practical domain adaptation")."""

    method: Literal["adabn"] = "adabn"

    def adapted(self, plain: Learned, domains: Domains, seed: int) -> Learned:
        return plain
