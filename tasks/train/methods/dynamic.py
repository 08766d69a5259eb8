"""Dynamic fine-tuning: layers and their rates are chosen during training."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.train.tuning.method import ThroughBackbone

if TYPE_CHECKING:
    from tasks.train.tuning.network import Tuning


class Dynamic(ThroughBackbone):
    """Before each epoch, blocks get rates in proportion to their relative gradient norms ‖g‖ / ‖w‖, and those that
    would hardly move are frozen (after Auto-RGN: Lee et al. 2023, "Surgical fine-tuning improves adaptation to
    distribution shifts", 4)."""

    method: Literal["dynamic"] = "dynamic"
    full_from: Literal["median", "largest"] = "median"
    """What norm gives the full rate, and so do all above: the `median`, or, as published, the `largest` alone."""
    looked_at: int = Field(default=8, ge=1)
    """Batches that the gradients are measured on."""
    least_rate: float = Field(default=0.05, ge=0, lt=1)
    """Blocks whose rate would be smaller are frozen for the epoch."""

    def rates(self, epoch: int, tuning: Tuning) -> list[float]:
        norms = tuning.relative_gradients(self.looked_at)
        depth = self.by_depth(len(norms))
        moved = [norm for norm in norms if norm > 0]
        if not moved:
            return depth  # under a head of zeros no block has a gradient yet
        full = median(moved) if self.full_from == "median" else max(moved)
        chosen = [min(1.0, norm / full) for norm in norms]
        return [rate * share if share >= self.least_rate else 0.0 for rate, share in zip(depth, chosen, strict=True)]

    @classmethod
    def space(cls, draw: Any) -> dict[str, Any]:
        return {"learning_rate": draw.suggest_float("learning_rate", 1e-4, 1e-2, log=True)}
