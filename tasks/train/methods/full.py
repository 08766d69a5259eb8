"""Full fine-tuning: every block learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tasks.train.tuning.method import ThroughBackbone

if TYPE_CHECKING:
    from tasks.train.tuning.network import Tuning


class Full(ThroughBackbone):
    """All layers are trained from the first step on, the head from zeros."""

    method: Literal["full"] = "full"
    head: Literal["zero", "probe"] = "zero"
    """What the head starts from: zeros, or the logistic regression on the frozen features."""

    def rates(self, epoch: int, tuning: Tuning) -> list[float]:
        return self.by_depth(len(tuning.blocks))
