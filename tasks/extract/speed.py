"""How long a backbone takes over an image, on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from tasks.extract.backbones import Backbone
from tasks.extract.engine import forward_all
from tasks.preprocess.recipe import Recipe

TIMED, WARM = 64, 8
"""Images that the time is measured on, and before them."""


def milliseconds_of(
    backbone: Backbone, images: Sequence[Path], recipe: Recipe, device: torch.device, precision: torch.dtype
) -> float:
    """Milliseconds from an image's file to its features, all that the machine does at once included."""
    paths = list(images[:TIMED])
    for some in (paths[:WARM], paths):
        began = time.perf_counter()
        list(forward_all(backbone, some, recipe, device=device, precision=precision))
        took = time.perf_counter() - began
    return 1000 * took / len(paths)
