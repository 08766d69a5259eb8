"""Strided depthwise convolutions whose gradients do not take longer than all the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from tasks.extract.timm_zoo import is_same_padded, same_padded


def with_fast_gradients(network: nn.Module) -> int:
    """Make strided depthwise convolutions compute their bf16 gradients on CPUs another way; returns how many there are.

    oneDNN has no fast code for the gradient of such a layer's input in bf16, and falls back to one that is up to
    seventy times slower: in MobileNetV2 these four layers took half of a training step. With zeros between the elements
    of its output's gradient, the input's gradient is that of the same layer without strides, for which it has.
    """
    slow = [m for m in network.modules() if isinstance(m, nn.Conv2d) and _is_strided_depthwise(m)]
    for module in slow:
        module.__class__ = StridedDepthwiseSame if is_same_padded(module) else StridedDepthwise
    return len(slow)


class StridedDepthwise(nn.Conv2d):
    """A `torch.nn.Conv2d`, the same in all but speed."""

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        lower = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        if input.device.type != "cpu" or lower != torch.bfloat16 or not torch.is_grad_enabled():
            return super()._conv_forward(input, weight, bias)
        with torch.autocast("cpu", enabled=False):
            cast = (part if part is None else part.to(lower) for part in (input, weight, bias))
            return _Convolution.apply(*cast, self.stride, self.padding, self.dilation)


class SamePadded(nn.Conv2d):
    """Pads its images as TensorFlow does, as timm's `Conv2dSame`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(same_padded(input, self))


class StridedDepthwiseSame(SamePadded, StridedDepthwise):
    """timm's `Conv2dSame`, the same in all but speed."""


def _is_strided_depthwise(module: nn.Conv2d) -> bool:
    return (
        (type(module) is nn.Conv2d or is_same_padded(module))
        and module.groups == module.in_channels == module.out_channels > 1
        and max(module.stride) > 1
        and module.padding_mode == "zeros"
        and isinstance(module.padding, tuple)
    )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images, weight, bias, stride, padding, dilation):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(images, weight)
        ctx.shape = (None if bias is None else [len(bias)], stride, padding, dilation)
        return nn.functional.conv2d(images, weight, bias, stride, padding, dilation, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient):  # type: ignore[no-untyped-def]
        images, weight = ctx.saved_tensors
        bias, stride, padding, dilation = ctx.shape
        height, width = (
            side + 2 * pad - spread * (kernel - 1)
            for side, pad, spread, kernel in zip(images.shape[-2:], padding, dilation, weight.shape[-2:], strict=True)
        )
        of_images, of_weight = ctx.needs_input_grad[:2]
        of_bias = bias is not None and ctx.needs_input_grad[2]
        to_images = to_weight = to_bias = None
        if of_images:
            shape = (*gradient.shape[:2], height, width)
            spread = torch.empty(
                shape, dtype=gradient.dtype, device=gradient.device, memory_format=torch.channels_last
            ).zero_()
            spread[:, :, :: stride[0], :: stride[1]] = gradient
            to_images, _, _ = torch.ops.aten.convolution_backward(
                spread, images, weight, bias, [1, 1], padding, dilation, False, [0, 0], len(weight),
                [True, False, False],
            )  # fmt: skip
        if of_weight or of_bias:
            _, to_weight, to_bias = torch.ops.aten.convolution_backward(
                gradient, images, weight, bias, stride, padding, dilation, False, [0, 0], len(weight),
                [False, of_weight, of_bias],
            )  # fmt: skip
        return to_images, to_weight, to_bias, None, None, None
