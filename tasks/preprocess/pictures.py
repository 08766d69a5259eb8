"""Images of a dataset by number, kept in memory where they fit: random parts of those that are learned from, and the
others exactly as they are served."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from tasks.ingest.decode import pixels_of
from tasks.machine import free_memory, usable_cores
from tasks.preprocess.augment import part_of
from tasks.preprocess.kinds import Augment
from tasks.preprocess.recipe import MARGIN, Recipe
from tasks.progress import progress

DECODERS = 4
"""Threads that decode at most: of photos, four did twice as many as one, and sixteen fewer again."""

SHARE = 0.4
"""Of the memory that is free, what decoded images may take."""


class Kept(ABC):
    """Images by number, read once and kept as long as they fit into memory; from then on, they are read at each use.

    Args:
        paths: image files.
        recipe: how an image is fitted to what a network sees; of its views, one is meant.
        budget: bytes that they may take; by default a share of the memory that is free.
    """

    def __init__(self, paths: Sequence[Path], recipe: Recipe, budget: int | None = None) -> None:
        self.paths, self.recipe = paths, replace(recipe, views="one")
        self.budget = int(SHARE * free_memory()) if budget is None else budget
        self._kept: list[torch.Tensor | None] = [None] * len(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        """One image: uint8 ``[3, H, W]``."""
        kept = self._kept[index]
        return self._read(index) if kept is None else kept

    @abstractmethod
    def _read(self, index: int) -> torch.Tensor:
        """One image from its file, as it is kept."""

    def _fill(self, what: str, budget: int) -> None:
        """Read as many as fit, in the background's threads; those that do not fit are left on the disk."""
        left = budget
        with ThreadPoolExecutor(min(DECODERS, usable_cores())) as pool, progress(what, len(self), "img") as advance:
            for start in range(0, len(self), 1024):
                chosen = range(start, min(start + 1024, len(self)))
                for index, picture in zip(chosen, pool.map(self._read, chosen), strict=True):
                    left -= picture.numel()
                    self._kept[index] = picture if left >= 0 else None
                advance(len(chosen))
                if left < 0:
                    advance(len(self) - chosen.stop)
                    break


class Squares(Kept):
    """Images as they are looked at once training is over: bit for bit the recipe's squares ``[3, size, size]``, so that
    what is measured on them is what will be served."""

    _loaded = False

    def load(self, what: str = "decode", holders: int = 1) -> Squares:
        """Read as many as fit; a second call finds them.

        Args:
            holders: processes that hold them, each with its part of the budget.
        """
        if not self._loaded:
            self._fill(what, self.budget // holders)
            self._loaded = True
        return self

    def _read(self, index: int) -> torch.Tensor:
        return self.recipe(self.paths[index])


class Pictures(Kept):
    """Images to learn from, the short side scaled down to little more than what a network sees.

    Views are cut out of these smaller pictures, so that large photos are resized twice: pixels differ a little from
    those that one resizing gives. For what is random anyway that makes no difference; nothing is measured on them.
    """

    def __init__(self, paths: Sequence[Path], recipe: Recipe, budget: int | None = None) -> None:
        super().__init__(paths, recipe, budget)
        self.short = round(recipe.size / MARGIN)
        self._loaded = 0

    def load(self, what: str = "decode", largest: int = 0, holders: int = 1) -> Pictures:
        """Read as many as fit; a second call for views of the same size finds them.

        Args:
            largest: side of the largest views that will be asked for, if larger than the recipe's.
            holders: processes that hold them, each with its part of the budget.
        """
        short = round(max(largest, self.recipe.size) / MARGIN)
        if self._loaded != short:
            self.short, self._loaded = short, short
            self._fill(what, self.budget // holders)
        return self

    def random(self, index: int, size: int, augment: Augment, least: float, draw: np.random.Generator) -> torch.Tensor:
        """One image as it is learned from: uint8 ``[3, size, size]``.

        ``flip`` mirrors it or not; the others show a random part of it, too (random-resized-crop, Szegedy et al. 2015).

        Args:
            least: share of the image that is shown at least.
        """
        if augment == "none":
            return self.whole(index, size)
        mirrored = draw.random() < 0.5
        if augment == "flip":
            view = self.whole(index, size)
        else:
            picture = self[index]
            height, width = picture.shape[-2:]
            part = part_of(height, width, draw, least)
            view = F.resized_crop(picture, *part, [size, size], antialias=True)
        return view.flip(-1) if mirrored else view

    def whole(self, index: int, size: int) -> torch.Tensor:
        """One image by the recipe's fit, of another size: uint8 ``[3, size, size]``."""
        return replace(self.recipe, size=size).fitted(self[index])

    def _read(self, index: int) -> torch.Tensor:
        with pixels_of(self.paths[index], self.recipe.limits) as pixels:
            picture = torch.from_numpy(pixels).permute(2, 0, 1)
            height, width = picture.shape[-2:]
            scale = self.short / min(height, width)
            if scale < 1:
                picture = F.resize(picture, [round(height * scale), round(width * scale)], antialias=True)
            return picture.contiguous()


class Views(Kept):
    """Images in the very views whose features are kept (see `tasks.preprocess.augment`), to be learned from as somebody
    else has looked at them.

    Args:
        views: of each path, 0 for the image as it is served, or the number of an augmented view.
    """

    _loaded = False

    def __init__(self, paths: Sequence[Path], recipe: Recipe, views: Sequence[int], budget: int | None = None) -> None:
        super().__init__(paths, recipe, budget)
        self.views = views

    def load(self, what: str = "decode", largest: int = 0, holders: int = 1) -> Views:
        """Read as many as fit; a second call finds them."""
        if not self._loaded:
            self._fill(what, self.budget // holders)
            self._loaded = True
        return self

    def random(self, index: int, size: int, augment: Augment, least: float, draw: np.random.Generator) -> torch.Tensor:
        """One view, uint8 ``[3, size, size]``, as `Pictures.random` gives them, but that nothing is left to chance."""
        view = self[index]
        return view if view.shape[-1] == size else F.resize(view, [size, size], antialias=True)

    def _read(self, index: int) -> torch.Tensor:
        return replace(self.recipe, variant=self.views[index])(self.paths[index])
