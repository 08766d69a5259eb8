"""Low-rank adaptation: each matrix learns a small change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.train.tuning.method import ThroughBackbone

if TYPE_CHECKING:
    from torch import nn

    from tasks.train.tuning.blocks import Block
    from tasks.train.tuning.network import Tuning


class LoRA(ThroughBackbone):
    """To every matrix W of a transformer, a product BA of low rank is added, and only A, B and the head learn; when
    training is over, W + BA takes the place of W, so that the model is no slower (Hu et al. 2022)."""

    method: Literal["lora"] = "lora"
    rank: int = Field(default=8, ge=1)
    """Rows of A, columns of B."""
    alpha: float = Field(default=16.0, gt=0)
    """BA is multiplied by alpha / rank."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Step size after warm-up; few parameters take larger ones."""

    def prepare(self, network: nn.Module, blocks: list[Block]) -> None:
        from tasks.train.tuning.low_rank import add_low_rank

        add_low_rank(network, blocks, self.rank, self.alpha)

    def rates(self, epoch: int, tuning: Tuning) -> list[float]:
        return self.by_depth(len(tuning.blocks))

    @classmethod
    def space(cls, draw: Any) -> dict[str, Any]:
        return super().space(draw) | {"rank": draw.suggest_categorical("rank", [2, 4, 8, 16])}
