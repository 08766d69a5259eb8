"""Augmented views of images, the same ones every time, so that what a network sees in them can be kept."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from tasks.preprocess.kinds import Interpolation

LEAST_AREA = 0.4
"""Share of the image that a view shows at least."""

STRETCH = 4 / 3
"""Ratio of the sides of what a view shows, at most; either side may be the longer one."""

TINT = 0.2
"""How much brightness, contrast and saturation of a view differ from the image's at most."""


def augmented(pixels: torch.Tensor, size: int, variant: int, interpolation: Interpolation = "bilinear") -> torch.Tensor:
    """A random part of an image, perhaps mirrored, slightly recoloured: uint8 ``[3, size, size]``.

    As in random-resized-crop training (Szegedy et al. 2015, "Going deeper with convolutions", 6). What is random is
    drawn from the image's own pixels and the number of the view: whoever computes it, and when, gets the same.

    Args:
        pixels: uint8 ``[3, H, W]``.
        variant: number of the view, from 1.
    """
    draw = np.random.default_rng([variant, zlib.crc32(pixels.contiguous().cpu().numpy().data)])
    height, width = pixels.shape[-2:]
    part = part_of(height, width, draw)
    view = F.resized_crop(pixels, *part, [size, size], InterpolationMode(interpolation), antialias=True)
    if draw.random() < 0.5:
        view = F.horizontal_flip(view)
    for change in (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation):
        view = change(view, float(draw.uniform(1 - TINT, 1 + TINT)))
    return view


def part_of(height: int, width: int, draw: np.random.Generator, least: float = LEAST_AREA) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random part of an image, which shows the share ``least`` of it at least."""
    area = draw.uniform(least, 1) * height * width
    ratio = math.exp(draw.uniform(-math.log(STRETCH), math.log(STRETCH)))
    shown_width = min(width, max(1, round(math.sqrt(area * ratio))))
    shown_height = min(height, max(1, round(math.sqrt(area / ratio))))
    top, left = draw.integers(height - shown_height + 1), draw.integers(width - shown_width + 1)
    return int(top), int(left), shown_height, shown_width
