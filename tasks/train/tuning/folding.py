"""Convolutions that do the work of the batch norm behind them while its statistics are frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import torch
from torch import fx, nn

from tasks.extract.timm_zoo import behind_norm, is_same_padded
from tasks.train.tuning.depthwise import Depthwise, DepthwiseSame
from tasks.train.tuning.padding import SamePadded


def folding_pays(trunk: nn.Module, device: torch.device) -> bool:
    """Whether passes over the images are what norms cost. On a GPU the start of each small operation costs more where
    layers are many and small, as depthwise networks have them: there MobileNetV2 learned at two thirds of the speed,
    ResNet-50 a fifth faster (benchmarks/RESULTS.md)."""
    depthwise = any(module.groups > 1 for module in trunk.modules() if isinstance(module, nn.Conv2d))
    return device.type == "cpu" or not depthwise


def fold_frozen_norms(trunk: nn.Module) -> int:
    """Make convolutions take on their batch norms wherever these do not follow the images; returns how many pairs
    there are.

    A frozen batch norm is a scale and a shift, so γ (W * x - μ) / √(σ² + ε) + β = (s W) * x + (β - s μ) with
    s = γ / √(σ² + ε) (Jacob et al. 2018, "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", 3.2). It then passes over the weights, not over the images, forwards and
    backwards. W, γ and β remain the parameters, and have the gradients that they would have.
    """
    assert isinstance(trunk, fx.GraphModule)
    graphs = [getattr(trunk, name) for name in ("train_graph", "eval_graph") if hasattr(trunk, name)] or [trunk.graph]
    pairs = set.intersection(*(set(_pairs(trunk, graph)) for graph in graphs))
    for convolution, norm in pairs:
        layer, behind = trunk.get_submodule(convolution), trunk.get_submodule(norm)
        layer.__class__ = _FOLDED[_kind(layer)]
        # In a list, so that it is no part of the convolution's state.
        layer.behind = [behind]  # type: ignore[assignment]
        behind.__class__ = _done_before(type(behind))  # type: ignore[assignment,arg-type]
    return len(pairs)


def _pairs(trunk: fx.GraphModule, graph: fx.Graph) -> Iterator[tuple[str, str]]:
    """Names of convolutions and batch norms of which the one is all that the other sees, and the other all that sees
    the one."""
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    neighbours: list[tuple[str, str]] = []
    for node in graph.nodes:
        name = str(node.target)
        if node.op != "call_module" or calls[name] != 1:
            continue
        module = trunk.get_submodule(name)
        if type(module).forward is nn.Sequential.forward:
            # What torchvision does not trace into: a convolution, its norm and its activation.
            neighbours += pairwise(f"{name}.{child}" for child, _ in module.named_children())
        before = node.all_input_nodes[0] if len(node.all_input_nodes) == 1 else node
        if before.op == "call_module" and len(before.users) == 1 and calls[str(before.target)] == 1:
            neighbours.append((str(before.target), name))
    for convolution, norm in neighbours:
        if _kind(trunk.get_submodule(convolution)) in _FOLDED and _is_affine(trunk.get_submodule(norm)):
            yield convolution, norm


def _is_affine(norm: nn.Module) -> bool:
    known = type(norm) is nn.BatchNorm2d or behind_norm(norm) is not None
    return known and bool(norm.affine) and bool(norm.track_running_stats)


class _Folded(nn.Conv2d):
    behind: list[nn.BatchNorm2d]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        (norm,) = self.behind
        if norm.training:
            return super().forward(input)
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias * scale
        return self._conv_forward(input, self.weight * scale.view(-1, 1, 1, 1), shift)


class _FoldedConv2d(_Folded):
    """A `torch.nn.Conv2d`."""


class _FoldedDepthwise(_Folded, Depthwise):
    """A `Depthwise`."""


class _FoldedSame(SamePadded, _Folded):
    """timm's `Conv2dSame`."""


class _FoldedDepthwiseSame(SamePadded, _FoldedDepthwise):
    """A `DepthwiseSame`."""


_FOLDED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: _FoldedConv2d,
    Depthwise: _FoldedDepthwise,
    SamePadded: _FoldedSame,
    DepthwiseSame: _FoldedDepthwiseSame,
}
"""What each kind of convolution becomes."""


def _kind(module: nn.Module) -> type[nn.Module]:
    return SamePadded if is_same_padded(module) else type(module)


class _DoneBefore(nn.BatchNorm2d):
    """A `torch.nn.BatchNorm2d` that, while it is frozen, has nothing left to do."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) if self.training else input


@cache
def _done_before(norm: type[nn.Module]) -> type[nn.Module]:
    """`_DoneBefore` or, of timm's norms that are one with their activation, the same with what is left to be done."""
    if norm is nn.BatchNorm2d:
        return _DoneBefore

    def forward(self: nn.Module, input: torch.Tensor) -> torch.Tensor:
        return norm.forward(self, input) if self.training else self.act(self.drop(input))  # type: ignore[operator]

    return type("_ActedOnly", (norm,), {"forward": forward})
