"""Low-rank adaptation: each matrix learns a small change."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn.utils import parametrize

from tasks.errors import ConfigurationError
from tasks.train.tuning.blocks import Block
from tasks.train.tuning.method import ThroughBackbone
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
        known = {id(parameter) for block in blocks for parameter in block.parameters}
        added: dict[int, list[nn.Parameter]] = {}
        for module in list(network.modules()):
            for name in ("weight", "in_proj_weight"):
                matrix = module._parameters.get(name)
                if matrix is None or matrix.ndim != 2 or id(matrix) not in known or not isinstance(module, MATRICES):
                    continue
                rows, columns = matrix.shape
                change = LowRank(rows, columns, self.rank, self.alpha / self.rank)
                parametrize.register_parametrization(module, name, change)
                added[id(module.parametrizations[name].original)] = list(change.parameters())  # type: ignore[index,union-attr]
        if not added:
            raise ConfigurationError(
                "train.method is lora, but the backbone has no matrices that it adapts: it is made for transformers "
                "such as vit_b_16 or swin_t; take lp_ft or partial for convolutional networks"
            )
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        for block in blocks:
            block.parameters = [change for p in block.parameters for change in added.get(id(p), [])]
            block.batch_norms = []
            for parameter in block.parameters:
                parameter.requires_grad_(True)
        blocks[:] = [block for block in blocks if block.parameters]

    def rates(self, epoch: int, tuning: Tuning) -> list[float]:
        return self.by_depth(len(tuning.blocks))

    @classmethod
    def space(cls, draw: Any) -> dict[str, Any]:
        return super().space(draw) | {"rank": draw.suggest_categorical("rank", [2, 4, 8, 16])}


MATRICES = (nn.Linear, nn.MultiheadAttention)


class LowRank(nn.Module):
    """W ``[out, in]`` + scale · BA, with B of zeros at first, so that nothing changes before the first step."""

    def __init__(self, rows: int, columns: int, rank: int, scale: float) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, columns))
        self.up = nn.Parameter(torch.zeros(rows, rank))
        self.scale = scale
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        return matrix + self.scale * (self.up @ self.down)
