"""A look at what the backbone will see, before hours are spent on it."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision.utils import make_grid, save_image

COLUMNS = 12


def contact_sheet(pixels: torch.Tensor, path: Path, least: int = 64) -> None:
    """Write images as one PNG, `COLUMNS` a row; images smaller than ``least`` pixels are enlarged.

    Args:
        pixels: uint8 ``[N, 3, S, S]``.
    """
    scale = max(1, least // pixels.shape[-1])
    enlarged = pixels.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    save_image(make_grid(enlarged.float() / 255, nrow=COLUMNS, padding=2, pad_value=1.0), path)


def channel_statistics(pixels: torch.Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel in units of 1/255, of uint8 ``[N, 3, S, S]``."""
    scaled = pixels.float() / 255
    return scaled.mean((0, 2, 3)).tolist(), scaled.std((0, 2, 3)).tolist()
