"""Corruptions of rising severity, as cameras, networks and weather make them, of images in tensors.

Kinds and strengths are those of Hendrycks & Dietterich (2019, "Benchmarking neural network robustness to common
corruptions and perturbations"), who published them for images of 224 pixels (ImageNet-C) and of 32 (CIFAR-10-C). For
sizes in between, strengths are interpolated over the logarithm of the size; beyond 224, blur grows with the image.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional as F

SEVERITIES = (1, 2, 3, 4, 5)
SMALL, LARGE = 32, 224
"""Pixels of a side that strengths were published for."""

STRENGTHS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "noise": ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "blur": ((0.4, 0.6, 0.7, 0.8, 1.0), (1.0, 2.0, 3.0, 4.0, 6.0)),
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "brightness": ((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "jpeg": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
    "pixelate": ((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
}
"""For images of 32 and of 224 pixels, by severity: deviation of the noise, of 1; standard deviation of the Gaussian
blur, pixels; share of the contrast that is left; what is added to the brightness, of 1; JPEG's quality; share of the
pixels of a side that are left."""


def strength(kind: str, severity: int, size: int) -> float:
    """How strong a corruption of a severity, 1 to 5, is for images of a size in pixels."""
    small, large = (strengths[severity - 1] for strengths in STRENGTHS[kind])
    share = math.log(size / SMALL) / math.log(LARGE / SMALL)
    value = small + min(max(share, 0.0), 1.0) * (large - small)
    return value * max(1.0, size / LARGE) if kind == "blur" else value


def corrupt(pixels: torch.Tensor, kind: str, severity: int, seed: int = 0) -> torch.Tensor:
    """Images uint8 ``[N, 3, S, S]`` after a corruption; the seed is that of the noise."""
    return _CORRUPT[kind](pixels, strength(kind, severity, pixels.shape[-1]), seed)


def _noise(pixels: torch.Tensor, deviation: float, seed: int) -> torch.Tensor:
    drawn = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
    return _as_bytes(pixels.float() + 255 * deviation * drawn)


def _blur(pixels: torch.Tensor, deviation: float, _: int) -> torch.Tensor:
    # The border is mirrored, so a kernel may not reach beyond the other side.
    reach = min(math.ceil(3 * deviation), pixels.shape[-1] - 1)
    return F.gaussian_blur(pixels, [2 * reach + 1, 2 * reach + 1], [deviation, deviation])


def _contrast(pixels: torch.Tensor, left: float, _: int) -> torch.Tensor:
    mean = pixels.float().mean((2, 3), keepdim=True)
    return _as_bytes(mean + left * (pixels - mean))


def _brightness(pixels: torch.Tensor, added: float, _: int) -> torch.Tensor:
    """Added to the value of hue, saturation and value."""
    value = pixels.float().amax(1, keepdim=True)
    brighter = (value + 255 * added).clamp(max=255)
    return _as_bytes(torch.where(value > 0, pixels * (brighter / value.clamp(min=1)), brighter))


def _jpeg(pixels: torch.Tensor, quality: float, _: int) -> torch.Tensor:
    with warnings.catch_warnings():
        # As in tasks/extract/hardware.py, which may not have been imported, or under other filters.
        warnings.filterwarnings("ignore", message="The image decoding", category=DeprecationWarning)
        return F.jpeg(pixels, round(quality))


def _pixelate(pixels: torch.Tensor, left: float, _: int) -> torch.Tensor:
    side = pixels.shape[-1]
    few = interpolate(pixels.float(), size=[max(1, int(side * left))] * 2, mode="area")
    return _as_bytes(interpolate(few, size=[side, side], mode="area"))


def _as_bytes(values: torch.Tensor) -> torch.Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


_CORRUPT: dict[str, Callable[[torch.Tensor, float, int], torch.Tensor]] = {
    "noise": _noise, "blur": _blur, "contrast": _contrast, "brightness": _brightness, "jpeg": _jpeg,
    "pixelate": _pixelate,
}  # fmt: skip
