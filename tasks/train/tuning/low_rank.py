"""Low-rank changes of a network's matrices, as LoRA learns them."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.utils import parametrize

from tasks.errors import ConfigurationError
from tasks.train.tuning.blocks import Block

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


def add_low_rank(network: nn.Module, blocks: list[Block], rank: int, alpha: float) -> None:
    """Give every matrix of the blocks a change of low rank, and leave nothing else in them to learn.

    Raises:
        ConfigurationError: there are no such matrices.
    """
    known = {id(parameter) for block in blocks for parameter in block.parameters}
    added: dict[int, list[nn.Parameter]] = {}
    for module in list(network.modules()):
        for name in ("weight", "in_proj_weight"):
            matrix = module._parameters.get(name)
            if matrix is None or matrix.ndim != 2 or id(matrix) not in known or not isinstance(module, MATRICES):
                continue
            rows, columns = matrix.shape
            change = LowRank(rows, columns, rank, alpha / rank)
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
