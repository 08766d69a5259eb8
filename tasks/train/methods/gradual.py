"""Gradual unfreezing: from the features down."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.train.tuning.method import ThroughBackbone

if TYPE_CHECKING:
    from tasks.train.tuning.network import Tuning


class Gradual(ThroughBackbone):
    """Blocks begin to learn one after the other, the last one first (Howard & Ruder 2018, "Universal language model
    fine-tuning for text classification", 3.3)."""

    method: Literal["gradual"] = "gradual"
    unfrozen_by: float = Field(default=0.5, gt=0, le=1)
    """Share of the epochs, or of the time where `minutes` end the training, by whose end all blocks learn."""

    def rates(self, epoch: int, tuning: Tuning) -> list[float]:
        depth = self.by_depth(len(tuning.blocks))
        steps = max(1, round(self.unfrozen_by * self.epochs))
        done = max((epoch + 1) / steps, tuning.over / self.unfrozen_by)
        learning = math.ceil(len(depth) * min(1.0, done))
        return [rate if place >= len(depth) - learning else 0.0 for place, rate in enumerate(depth)]
