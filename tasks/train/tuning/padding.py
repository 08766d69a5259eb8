"""Zeros around images as TensorFlow has them, at the price of one copy."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tasks.extract.timm_zoo import same_padding


class SamePadded(nn.Conv2d):
    """Pads its images as TensorFlow does, as timm's `Conv2dSame`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        around = same_padding(self, *input.shape[-2:])
        return super().forward(_Padded.apply(input, *around) if any(around) else input)


class _Padded(torch.autograd.Function):
    """Zeros around images: `torch.nn.functional.pad` writes them below the images, too, and copies the gradient."""

    @staticmethod
    def forward(ctx: Any, images, above, below, left, right):  # type: ignore[no-untyped-def]
        *some, height, width = images.shape
        ctx.inside = (..., slice(above, above + height), slice(left, left + width))
        order = torch.channels_last if images.is_contiguous(memory_format=torch.channels_last) else None
        shape = (*some, above + height + below, left + width + right)
        padded = torch.empty(
            shape, dtype=images.dtype, device=images.device, memory_format=order or torch.contiguous_format
        )
        padded[ctx.inside] = images
        for edge in (
            padded[..., :above, :], padded[..., above + height :, :], padded[..., :left], padded[..., left + width :]
        ):  # fmt: skip
            edge.zero_()
        return padded

    @staticmethod
    def backward(ctx: Any, gradient):  # type: ignore[no-untyped-def]
        return gradient[ctx.inside], None, None, None, None
