"""An adapted head and a plain one as one: where adapting went wrong the plain one holds against it, and where it went
well, the two know more than one."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from tasks.train.heads import Head

ADAPTED = 2 / 3
"""Share of the adapted head's logits; of 1/2 to 1, chosen on PACS under ImageNet weights (benchmarks/adaptation.py)."""


def shares(plain: torch.Tensor, adapted: torch.Tensor) -> tuple[float, float]:
    """What the logits of each are multiplied by before they are added.

    A head that was drawn to sure answers has logits several times as large, and would be alone in the sum; so each is
    divided by its spread on the target, the deviation of its logits from the mean of their image. The sum has the
    spread of the adapted one's, up to how far they agree.

    Args:
        plain, adapted: logits or their log-softmax ``[N, C]`` on the target.
    """
    ours, theirs = (float((part - part.mean(1, keepdim=True)).std().clamp(min=1e-6)) for part in (plain, adapted))
    return (1 - ADAPTED) * theirs / ours, ADAPTED


def together(heads: tuple[Head, Head], weights: tuple[float, float]) -> Head:
    """One head whose logits are the weighted sum of two heads' ``[N, C]``, each with its own statistics.

    Both are linear, or have a hidden layer; hidden layers stand side by side. The sum has the second head's statistics:
    W((x - m₁)/s₁) + b is W'((x - m₂)/s₂) + b' with W' = W·s₂/s₁ and b' = b + W((m₂ - m₁)/s₁).
    """
    first, second = heads
    (inner, outer), (own_inner, own_outer) = (_layers(head) for head in heads)
    moved = deepcopy(inner)
    with torch.no_grad():
        moved.bias.add_(inner.weight @ ((second.mean - first.mean) / first.std))
        moved.weight.mul_(second.std / first.std)
        if outer is None or own_outer is None:
            made = Head(second.width, second.classes, parts=second.parts)
            made.layers = _summed([moved, own_inner], weights)
        else:
            made = Head(second.width, second.classes, moved.out_features + own_inner.out_features, parts=second.parts)
            made.layers = nn.Sequential(_stacked([moved, own_inner]), nn.ReLU(), _joined([outer, own_outer], weights))
    made.mean.copy_(second.mean)
    made.std.copy_(second.std)
    return made.eval()


def _layers(head: Head) -> tuple[nn.Linear, nn.Linear | None]:
    layers = [head.layers] if isinstance(head.layers, nn.Linear) else [head.layers[0], head.layers[2]]  # type: ignore[index]
    return layers[0], layers[1] if len(layers) > 1 else None  # type: ignore[return-value]


def _made(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight.clone(), bias.clone()
    return layer


def _summed(layers: list[nn.Linear], weights: tuple[float, float]) -> nn.Linear:
    weight, bias = (
        sum(share * getattr(layer, name) for share, layer in zip(weights, layers, strict=True))
        for name in ("weight", "bias")
    )
    assert isinstance(weight, torch.Tensor) and isinstance(bias, torch.Tensor)
    return _made(weight, bias)


def _stacked(layers: list[nn.Linear]) -> nn.Linear:
    return _made(torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers]))


def _joined(layers: list[nn.Linear], weights: tuple[float, float]) -> nn.Linear:
    """Both outer layers over the two hidden ones side by side."""
    scaled = [share * layer.weight for share, layer in zip(weights, layers, strict=True)]
    return _made(torch.cat(scaled, 1), _summed(layers, weights).bias)
