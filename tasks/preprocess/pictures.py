"""Decoded images of a training set, kept in memory where they fit, and random parts of them to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from tasks.ingest.decode import decode
from tasks.machine import free_memory, usable_cores
from tasks.preprocess.augment import part_of
from tasks.preprocess.recipe import MARGIN, Recipe
from tasks.progress import progress

Augment = Literal["none", "flip", "crop", "trivial", "rand"]

DECODERS = 4
"""Threads that decode at most: of photos, four did twice as many as one, and sixteen fewer again."""

SHARE = 0.4
"""Of the memory that is free, what decoded images may take."""


class Pictures:
    """Images by number, decoded, the short side scaled down to little more than what a network sees.

    Images are decoded once and kept as long as they fit into memory; from then on, they are decoded at each use.

    Args:
        paths: image files.
        recipe: its size and fit are those of `square`.
        budget: bytes that decoded images may take; by default a share of the memory that is free.
    """

    def __init__(self, paths: Sequence[Path], recipe: Recipe, budget: int | None = None) -> None:
        self.paths, self.recipe = paths, recipe
        self.short = round(recipe.size / MARGIN)
        self.budget = int(SHARE * free_memory()) if budget is None else budget
        self._kept: list[torch.Tensor | None] = [None] * len(paths)
        self._loaded = 0

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, what: str = "decode", largest: int = 0, holders: int = 1) -> Pictures:
        """Decode as many as fit, in the background's threads; those that do not fit are left on the disk. A second call
        for views of the same size finds them decoded.

        Args:
            largest: side of the largest views that will be asked for, if larger than the recipe's.
            holders: processes that hold them, each with its part of the budget.
        """
        short, left = round(max(largest, self.recipe.size) / MARGIN), self.budget // holders
        if self._loaded == short:
            return self
        self.short, self._loaded = short, short
        with ThreadPoolExecutor(min(DECODERS, usable_cores())) as pool, progress(what, len(self), "img") as advance:
            for start in range(0, len(self), 1024):
                chosen = range(start, min(start + 1024, len(self)))
                for index, picture in zip(chosen, pool.map(self._decoded, chosen), strict=True):
                    left -= picture.numel()
                    self._kept[index] = picture if left >= 0 else None
                advance(len(chosen))
                if left < 0:
                    advance(len(self) - chosen.stop)
                    break
        return self

    def __getitem__(self, index: int) -> torch.Tensor:
        """One image: uint8 ``[3, H, W]``."""
        kept = self._kept[index]
        return self._decoded(index) if kept is None else kept

    def square(self, index: int, size: int | None = None) -> torch.Tensor:
        """One image as it is looked at once training is over: uint8 ``[3, size, size]``."""
        return Recipe(size or self.recipe.size, self.recipe.fit).fitted(self[index])

    def random(self, index: int, size: int, augment: Augment, least: float, draw: np.random.Generator) -> torch.Tensor:
        """One image as it is learned from: uint8 ``[3, size, size]``.

        ``flip`` mirrors it or not; the others show a random part of it, too (random-resized-crop, Szegedy et al. 2015).

        Args:
            least: share of the image that is shown at least.
        """
        if augment == "none":
            return self.square(index, size)
        mirrored = draw.random() < 0.5
        if augment == "flip":
            view = self.square(index, size)
        else:
            picture = self[index]
            height, width = picture.shape[-2:]
            part = part_of(height, width, draw, least)
            view = F.resized_crop(picture, *part, [size, size], antialias=True)
        return view.flip(-1) if mirrored else view

    def _decoded(self, index: int) -> torch.Tensor:
        picture = torch.from_numpy(np.array(decode(self.paths[index]))).permute(2, 0, 1)
        height, width = picture.shape[-2:]
        scale = self.short / min(height, width)
        if scale < 1:
            picture = F.resize(picture, [round(height * scale), round(width * scale)], antialias=True)
        return picture.contiguous()
