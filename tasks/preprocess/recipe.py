"""The geometry between a decoded image and the square that a backbone sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from typing import Literal

import torch
from torchvision.transforms.v2 import functional as F

from tasks.ingest.decode import ImageLike, decode
from tasks.progress import progress

Fit = Literal["crop", "squash", "pad"]


@dataclass(frozen=True)
class Recipe:
    """How any image becomes ``size``×``size`` pixels.

    Attributes:
        size: side of the square, pixels.
        fit: ``crop`` scales the short side to ``size`` and takes the centre; ``squash`` ignores the aspect
            ratio; ``pad`` scales the long side and fills with black.
    """

    size: int
    fit: Fit = "crop"

    def __call__(self, image: ImageLike) -> torch.Tensor:
        """Decode one image and fit it: uint8 tensor ``[3, size, size]``, RGB, 0..255.

        Resizing is bilinear with antialiasing, in either direction.

        Raises:
            DataError: the image cannot be decoded.
        """
        pixels = F.pil_to_tensor(decode(image))
        height, width = pixels.shape[-2:]
        if (height, width) == (self.size, self.size):
            return pixels
        match self.fit:
            case "squash":
                return F.resize(pixels, [self.size, self.size], antialias=True)
            case "crop":
                scale = self.size / min(height, width)
            case "pad":
                scale = self.size / max(height, width)
        target = [max(1, round(height * scale)), max(1, round(width * scale))]
        return F.center_crop(F.resize(pixels, target, antialias=True), [self.size, self.size])


def batches(images: Sequence[ImageLike], recipe: Recipe, batch: int) -> Iterator[torch.Tensor]:
    """Decode images in the background and yield them in order, ``batch`` at a time.

    Yields uint8 tensors ``[n, 3, size, size]`` with n ≤ ``batch``. At most two batches wait in memory.
    """
    workers = cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        starts = range(0, len(images), batch)
        ahead = [pool.map(recipe, images[start : start + batch]) for start in starts[:2]]
        for start in starts:
            ready = torch.stack(list(ahead.pop(0)))
            following = start + 2 * batch
            if following < len(images):
                ahead.append(pool.map(recipe, images[following : following + batch]))
            yield ready


def load_pixels(images: Sequence[ImageLike], recipe: Recipe, what: str = "decode") -> torch.Tensor:
    """Decode a whole set into one uint8 tensor ``[N, 3, size, size]``; it must fit in memory."""
    pixels = torch.empty(len(images), 3, recipe.size, recipe.size, dtype=torch.uint8)
    done = 0
    with progress(what, total=len(images), unit="img") as advance:
        for ready in batches(images, recipe, batch=1024):
            pixels[done : done + len(ready)] = ready
            done += len(ready)
            advance(len(ready))
    return pixels
