"""A backbone made ready for inference: batch norms folded, one precision, and compiled where that pays."""

from __future__ import annotations

import copy
import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import fx, nn
from torch.fx.experimental.optimization import fuse, fuse_conv_bn_eval
from torch.utils.flop_counter import FlopCounterMode

from tasks.extract.backbones import Backbone
from tasks.extract.timm_zoo import behind_norm, is_same_padded
from tasks.progress import hushed

Forward = Callable[[torch.Tensor], torch.Tensor]
"""uint8 images ``[N, 3, S, S]`` to float32 features ``[N, width]``."""

COMPILE_SECONDS = 15.0
"""What a compilation costs on a CPU with two cores."""

COMPILE_GAIN = 1.25
"""How much faster compiled convolutional networks ran than eager ones at most, see benchmarks/RESULTS.md."""

MATRIX_SIDES = ((2048, 2048, 2048), (4096, 1024, 1024), (8192, 512, 4608))
"""Rows, inner and outer size of the products that tell how fast a device multiplies."""


def prepared(backbone: Backbone, device: torch.device, precision: torch.dtype) -> Backbone:
    """A copy on a device, in one precision, its batch norms folded into the convolutions before them.

    Folding is done in fp32 (Jacob et al. 2018, "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", 3.2), so that it costs no precision.
    """
    ready = copy.deepcopy(backbone).eval()
    ready.trunk = _folded(ready.trunk)
    ready.precision = precision
    ready.to(device)
    ready.trunk.to(precision)
    for parameter in ready.trunk.parameters():
        if parameter.ndim == 4:  # `to` would ask the same of what has five
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return ready.requires_grad_(False)


def _folded(trunk: nn.Module) -> nn.Module:
    if not isinstance(trunk, fx.GraphModule):
        return trunk
    graph = fx.GraphModule(trunk, trunk.graph)
    # torchvision's own blocks are single nodes of the graph: what happens inside them is folded in place.
    for node in graph.graph.nodes:
        if node.op == "call_module":
            _fold_inside(graph.get_submodule(node.target))
    _fold_timm(graph)
    return fuse(graph, inplace=True, no_trace=True).eval()


def _fold_inside(block: nn.Module) -> None:
    for module in block.modules():
        names = list(module._modules) if isinstance(module, nn.Sequential) else []
        for name, following in pairwise(names):
            first, second = module._modules[name], module._modules[following]
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d) and second.track_running_stats:
                module._modules[name] = fuse_conv_bn_eval(first, second)
                module._modules[following] = nn.Identity()


def _fold_timm(graph: fx.GraphModule) -> None:
    """Fold what torch's `fuse` does not know: timm's batch norms that are one with their activation, and convolutions
    with another padding."""
    calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    for node in graph.graph.nodes:
        if node.op != "call_module" or not isinstance(before := node.args[0], fx.Node):
            continue
        if before.op != "call_module" or len(before.users) > 1 or {calls[node.target], calls[before.target]} != {1}:
            continue
        convolution, norm = graph.get_submodule(str(before.target)), graph.get_submodule(str(node.target))
        behind = behind_norm(norm)
        is_norm = behind is not None or type(norm) is nn.BatchNorm2d
        if is_norm and norm.track_running_stats and (type(convolution) is nn.Conv2d or is_same_padded(convolution)):
            graph.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))  # type: ignore[type-var,arg-type]
            graph.set_submodule(str(node.target), behind or nn.Identity())


def flops(backbone: Backbone, size: int) -> float:
    """Floating-point operations (two per multiplication and addition) of one image in a forward pass."""
    device = backbone.mean.device
    with torch.inference_mode(False), torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone(torch.zeros(1, 3, size, size, dtype=torch.uint8, device=device))
    return float(counter.get_total_flops())


@torch.inference_mode()
def matrix_rate(device: torch.device, precision: torch.dtype, seconds: float = 0.2) -> float:
    """Floating-point operations per second of the fastest of a few matrix products: what a forward pass cannot beat."""
    best = 0.0
    for rows, inner, outer in MATRIX_SIDES:
        left = torch.randn(rows, inner, device=device).to(precision)
        right = torch.randn(inner, outer, device=device).to(precision)
        left @ right
        count, started = 0, _now(device)
        while (spent := _now(device) - started) < seconds:
            for _ in range(1 if device.type == "cpu" else 20):
                left @ right
                count += 1
        best = max(best, 2.0 * rows * inner * outer * count / spent)
    return best


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def compiling_pays(remaining: float, share: float) -> bool:
    """Whether a compiled pass is worth its compilation.

    Args:
        remaining: seconds that the rest of the work takes as it is.
        share: of the device's matrix rate that the pass reaches as it is; the compiled one cannot exceed it.
    """
    gain = min(COMPILE_GAIN, 1 / max(share, 1e-9))
    return remaining * (1 - 1 / gain) > COMPILE_SECONDS


def compiled(backbone: Backbone, images: torch.Tensor) -> Forward:
    """Compile the forward pass for batches like ``images``, weights frozen into it.

    Raises:
        Exception: of many types, where the compiler or what it needs is missing.
    """
    from torch._inductor import config

    with config.patch(freezing=True), _quiet(), torch.inference_mode():
        # Generated CPU code keeps the number of threads that it was compiled under.
        forward = torch.compile(backbone, dynamic=False)
        forward(images)
    return forward  # type: ignore[return-value]


@contextmanager
def _quiet() -> Iterator[None]:
    """The compiler announces on stderr what it did not find; none of that concerns a frozen pass."""
    loggers = ("torch._inductor", "torch._dynamo", "torch.utils.cpp_extension")
    with hushed(logging.CRITICAL, *loggers), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
