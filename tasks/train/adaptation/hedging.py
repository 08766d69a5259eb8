"""An adapted head and a plain one as one: where adapting went wrong the plain one holds against it, and where it went
well, the two know more than one."""

from __future__ import annotations

from collections.abc import Sequence
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


def together(heads: Sequence[Head], weights: Sequence[float]) -> Head:
    """One head whose logits are the weighted sum of those ``[N, C]`` of several, each with its own statistics.

    All are linear, or have a hidden layer; hidden layers stand side by side. The sum has the last head's statistics:
    W((x - m₁)/s₁) + b is W'((x - m₂)/s₂) + b' with W' = W·s₂/s₁ and b' = b + W((m₂ - m₁)/s₁).
    """
    last = heads[-1]
    layers = [_layers(head) for head in heads]
    inner = [_moved(layer, head, last) for (layer, _), head in zip(layers, heads, strict=True)]
    outer = [layer for _, layer in layers if layer is not None]
    hidden = sum(layer.out_features for layer in inner) if outer else None
    made = Head(last.width, last.classes, hidden, parts=last.parts)
    if outer:
        made.layers = nn.Sequential(_stacked(inner), nn.ReLU(), _joined(outer, weights))
    else:
        made.layers = _summed(inner, weights)
    made.mean.copy_(last.mean)
    made.std.copy_(last.std)
    return made.eval()


def _moved(layer: nn.Linear, head: Head, to: Head) -> nn.Linear:
    """A layer on features as another head standardises them."""
    moved = deepcopy(layer)
    with torch.no_grad():
        moved.bias.add_(layer.weight @ ((to.mean - head.mean) / head.std))
        moved.weight.mul_(to.std / head.std)
    return moved


def _layers(head: Head) -> tuple[nn.Linear, nn.Linear | None]:
    layers = [head.layers] if isinstance(head.layers, nn.Linear) else [head.layers[0], head.layers[2]]  # type: ignore[index]
    return layers[0], layers[1] if len(layers) > 1 else None  # type: ignore[return-value]


def _made(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight.clone(), bias.clone()
    return layer


def _summed(layers: list[nn.Linear], weights: Sequence[float]) -> nn.Linear:
    weight, bias = (
        sum(share * getattr(layer, name) for share, layer in zip(weights, layers, strict=True))
        for name in ("weight", "bias")
    )
    assert isinstance(weight, torch.Tensor) and isinstance(bias, torch.Tensor)
    return _made(weight, bias)


def _stacked(layers: list[nn.Linear]) -> nn.Linear:
    return _made(torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers]))


def _joined(layers: list[nn.Linear], weights: Sequence[float]) -> nn.Linear:
    """All outer layers over the hidden ones side by side."""
    scaled = [share * layer.weight for share, layer in zip(weights, layers, strict=True)]
    return _made(torch.cat(scaled, 1), _summed(layers, weights).bias)
