"""Linear probing, then fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tasks.train.tuning.method import ThroughBackbone

if TYPE_CHECKING:
    from tasks.train.tuning.network import Tuning


class LpFt(ThroughBackbone):
    """The head is solved on frozen features first, then all layers are trained (Kumar et al. 2022, "Fine-tuning can
    distort pretrained features and underperform out-of-distribution")."""

    method: Literal["lp_ft"] = "lp_ft"
    head: Literal["probe"] = "probe"
    """What the head starts from: the logistic regression on the frozen features."""

    def rates(self, epoch: int, tuning: Tuning) -> list[float]:
        return self.by_depth(len(tuning.blocks))
