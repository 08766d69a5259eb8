"""Activations that keep what their gradient needs, and no more."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


def with_lean_activations(network: nn.Module) -> int:
    """Make ReLU6 in place keep nothing beside its output; returns how many there are.

    PyTorch tells the gradient of a clipped value from the value as it came, which it copies where it is then
    overwritten. The output tells as much: it is strictly between the bounds exactly where the input is.
    """
    wasteful = [module for module in network.modules() if type(module) is nn.ReLU6 and module.inplace]
    for module in wasteful:
        module.__class__ = LeanReLU6
    return len(wasteful)


class LeanReLU6(nn.ReLU6):
    """A `torch.nn.ReLU6` in place, the same in all but the copy."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        # Into a view of another tensor, autograd lets only its own operations write.
        lean = input.requires_grad and not input._is_view()
        return _Clipped.apply(input) if lean else super().forward(input)


class _Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values):  # type: ignore[no-untyped-def]
        ctx.mark_dirty(functional.relu6(values, inplace=True))
        ctx.save_for_backward(values)
        return values

    @staticmethod
    def backward(ctx: Any, gradient):  # type: ignore[no-untyped-def]
        (values,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, values, 0.0, 6.0)
