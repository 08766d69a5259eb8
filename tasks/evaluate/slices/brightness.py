"""How bright images are: what cameras, rooms and hours differ in."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import ImageStat

from tasks.ingest.decode import decode_opened, open_image, room_of
from tasks.limits import Limits

MEASURED = 2_000
"""Most images of a split that are decoded for it."""

SIDE = 32
"""Pixels that a JPEG's shorter side has to keep: it is decoded at an eighth where that is enough."""


def brightness_of(paths: Sequence[Path], limits: Limits, seed: int = 0) -> np.ndarray:
    """Mean luminance (ITU-R 601) of images, 0..1, float64 ``[N]``; NaN for those beyond a sample of `MEASURED`."""
    found = np.full(len(paths), np.nan)
    chosen = np.arange(len(paths))
    if len(paths) > MEASURED:
        chosen = np.sort(np.random.default_rng(seed).choice(len(paths), MEASURED, replace=False))
    with ThreadPoolExecutor() as workers:
        found[chosen] = list(workers.map(lambda place: _brightness(paths[place], limits), chosen))
    return found


@lru_cache(maxsize=1 << 16)
def _brightness(path: Path, limits: Limits) -> float:
    """Evaluation and comparison ask for the same images."""
    opened = open_image(path, limits)
    opened.draft("RGB", (SIDE, SIDE))
    with room_of(opened, limits):
        return ImageStat.Stat(decode_opened(opened, limits).convert("L")).mean[0] / 255
