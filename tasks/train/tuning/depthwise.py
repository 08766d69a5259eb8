"""Depthwise convolutions whose gradients do not take longer than all the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tasks.extract.timm_zoo import is_same_padded
from tasks.train.tuning.padding import SamePadded

FAST = 3
"""The widest depthwise kernel whose gradient oneDNN has code of its own for, of any height."""


def with_fast_gradients(network: nn.Module) -> int:
    """Make depthwise convolutions compute their gradients on CPUs another way where oneDNN has no fast code for them;
    returns how many there are.

    With strides, it is the gradient of the layer's input in bf16, up to seventy times slower: in MobileNetV2 these four
    layers took half of a training step. With zeros between the elements of its output's gradient, the input's gradient
    is that of the same layer without strides, for which there is code. With kernels wider than `FAST`, it is the
    gradient of the weights, half of EfficientNet-Lite0's step in bf16: column by column of the kernel, it is that of
    narrow kernels on parts of the images.
    """
    slow = [m for m in network.modules() if isinstance(m, nn.Conv2d) and _is_slow(m)]
    for module in slow:
        module.__class__ = DepthwiseSame if is_same_padded(module) else Depthwise
    return len(slow)


class Depthwise(nn.Conv2d):
    """A `torch.nn.Conv2d`, the same in all but speed."""

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        lower = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        slow = lower == torch.bfloat16 or (lower == torch.float32 and not _is_strided(self))
        if input.device.type != "cpu" or not slow or not torch.is_grad_enabled():
            return super()._conv_forward(input, weight, bias)
        with torch.autocast("cpu", enabled=False):
            cast = (part if part is None else part.to(lower) for part in (input, weight, bias))
            return _Convolution.apply(*cast, self.stride, self.padding, self.dilation, _is_wide(self))


class DepthwiseSame(SamePadded, Depthwise):
    """timm's `Conv2dSame`, the same in all but speed."""


def _is_slow(module: nn.Conv2d) -> bool:
    return (
        (type(module) is nn.Conv2d or is_same_padded(module))
        and module.groups == module.in_channels == module.out_channels > 1
        and (_is_strided(module) or _is_wide(module))
        and module.padding_mode == "zeros"
        and isinstance(module.padding, tuple)
    )


def _is_strided(module: nn.Conv2d) -> bool:
    return max(module.stride) > 1


def _is_wide(module: nn.Conv2d) -> bool:
    has_code = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return has_code and module.kernel_size[1] > FAST and max(module.dilation) == 1


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images, weight, bias, stride, padding, dilation, wide):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(images, weight)
        ctx.shape = (None if bias is None else [len(bias)], stride, padding, dilation, wide)
        return functional.conv2d(images, weight, bias, stride, padding, dilation, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient):  # type: ignore[no-untyped-def]
        images, weight = ctx.saved_tensors
        bias, stride, padding, dilation, wide = ctx.shape
        of_images, of_weight = ctx.needs_input_grad[:2]
        of_bias = bias is not None and ctx.needs_input_grad[2]
        to_images = to_weight = to_bias = None
        if of_images:
            spread = _spread(gradient, images, weight, stride, padding, dilation)
            to_images = _onednns(spread, images, weight, bias, (1, 1), padding, dilation, (True, False, False))[0]
        if of_weight and wide:
            starts = range(0, weight.shape[-1], FAST)
            to_weight = torch.cat([_of_columns(s, images, weight, gradient, stride, padding) for s in starts], dim=-1)
            to_bias = gradient.sum((0, 2, 3)) if of_bias else None
        elif of_weight or of_bias:
            wanted = (False, of_weight, of_bias)
            _, to_weight, to_bias = _onednns(gradient, images, weight, bias, stride, padding, dilation, wanted)
        return to_images, to_weight, to_bias, None, None, None, None


def _spread(gradient, images, weight, stride, padding, dilation) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """The gradient of a layer with strides as that of the same layer without them: zeros where it does not look."""
    if max(stride) == 1:
        return gradient  # type: ignore[no-any-return]
    height, width = (
        side + 2 * pad - apart * (kernel - 1)
        for side, pad, apart, kernel in zip(images.shape[-2:], padding, dilation, weight.shape[-2:], strict=True)
    )
    spread = torch.empty(
        (*gradient.shape[:2], height, width), dtype=gradient.dtype, device=gradient.device,
        memory_format=torch.channels_last,
    ).zero_()  # fmt: skip
    spread[:, :, :: stride[0], :: stride[1]] = gradient
    return spread  # type: ignore[no-any-return]


def _of_columns(first: int, images, weight, gradient, stride, padding) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """The gradient of `FAST` columns of a kernel, from ``first`` on: they see the images but for their edges."""
    columns = weight[..., first : first + FAST].contiguous()
    (above, beside), seen = padding, (gradient.shape[-1] - 1) * stride[1] + columns.shape[-1]
    before = beside - first
    if not -images.shape[-1] < before < seen:
        return torch.zeros_like(columns)  # of images so narrow, they see the zeros around them alone
    # Rows of zeros are there for all to see: what is less high than its kernel has no fast code either.
    part = functional.pad(images, (before, seen - before - images.shape[-1], above, above))
    return _onednns(gradient, part, columns, None, stride, (0, 0), (1, 1), (False, True, False))[1]  # type: ignore[no-any-return]


def _onednns(gradient, images, weight, bias, stride, padding, dilation, wanted):  # type: ignore[no-untyped-def]
    """A depthwise layer's gradients as they come, those that are wanted: of images, weight and bias."""
    return torch.ops.aten.convolution_backward(
        gradient, images, weight, bias, stride, padding, dilation, False, [0, 0], len(weight), wanted
    )
