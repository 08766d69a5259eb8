"""The geometry between a decoded image and the square that a backbone sees."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from tasks.ingest.decode import ImageLike, pixels_of
from tasks.limits import ALLOWED, Limits
from tasks.machine import usable_cores
from tasks.preprocess.augment import augmented
from tasks.preprocess.kinds import VIEWS, Interpolation, Views
from tasks.progress import progress

Fit = Literal["crop", "squash", "pad"]

MARGIN = 0.875
"""Share of the short side that each of ten crops takes: the 224 of 256 pixels usual for ImageNet."""

LONGEST = 8
"""Ratio of the sides beyond which an image is shortened before it is scaled."""

BLOCK = 1024
"""Images that are decoded between two reports of progress."""


@dataclass(frozen=True)
class Recipe:
    """How any image becomes ``size``×``size`` pixels.

    Attributes:
        size: side of the square, pixels.
        fit: ``crop`` scales the short side to ``size`` and takes the centre; ``squash`` ignores the aspect
            ratio; ``pad`` scales the long side and fills with black.
        views: ``one``; ``mirrored``, the square and its mirror image; or ``ten``: centre and corners of the whole
            image, scaled slightly larger, and their mirror images (Krizhevsky et al. 2012, "ImageNet classification
            with deep convolutional neural networks", 4.1). Features are averaged over them.
        crop: of the square that the image is scaled to, the share of its side that is looked at, in its middle; where
            the image is padded, all of it is.
        interpolation: of scaling.
        variant: 0, or the number of an augmented view that is taken instead; see `tasks.preprocess.augment`.
        limits: beyond which an image is refused.
    """

    size: int
    fit: Fit = "crop"
    views: Views = "one"
    crop: float = 1.0
    interpolation: Interpolation = "bilinear"
    variant: int = 0
    limits: Limits = ALLOWED

    @property
    def count(self) -> int:
        """Views of an image."""
        return 1 if self.variant else VIEWS[self.views]

    def __call__(self, image: ImageLike) -> torch.Tensor:
        """Decode one image and fit it: uint8 tensor ``[3, size, size]`` or, of several views,
        ``[views, 3, size, size]``; RGB, 0..255.

        Scaling is antialiased, in either direction.

        Raises:
            DataError: the image cannot be decoded, or is beyond the limits.
        """
        with pixels_of(image, self.limits) as pixels:
            return self.fitted(torch.from_numpy(pixels).permute(2, 0, 1))

    def fitted(self, pixels: torch.Tensor) -> torch.Tensor:
        """Fit an image that is decoded already: uint8 ``[3, H, W]``, on any device."""
        if self.variant:
            return augmented(pixels, self.size, self.variant, self.interpolation)
        if self.views == "ten":
            side = round(self.size / MARGIN)
            larger = self._scaled(pixels, side)
            if self.fit == "pad":
                larger = F.center_crop(larger, [side, side])
            return torch.stack(F.ten_crop(larger, [self.size, self.size]))
        scaled = self._scaled(pixels, self.size if self.fit == "pad" else int(self.size / self.crop))
        square = [self.size, self.size]
        seen = scaled if list(scaled.shape[-2:]) == square else F.center_crop(scaled, square)
        return torch.stack([seen, seen.flip(-1)]) if self.views == "mirrored" else seen

    def _scaled(self, pixels: torch.Tensor, side: int) -> torch.Tensor:
        """Scale so that the square of ``side`` pixels is the centre of the result."""
        if self.fit == "crop":
            # Of a strip, all that is far from the centre would be scaled up only to be cut off.
            most = LONGEST * min(pixels.shape[-2:])
            pixels = F.center_crop(pixels, [min(length, most) for length in pixels.shape[-2:]])
        height, width = pixels.shape[-2:]
        match self.fit:
            case "squash":
                target = [side, side]
            case "crop":
                target = [max(1, round(length * side / min(height, width))) for length in (height, width)]
            case "pad":
                target = [max(1, round(length * side / max(height, width))) for length in (height, width)]
        if target == [height, width]:
            return pixels
        return F.resize(pixels, target, InterpolationMode(self.interpolation), antialias=True)


def load_pixels(images: Sequence[ImageLike], recipe: Recipe, what: str = "decode") -> torch.Tensor:
    """Decode a whole set into one uint8 tensor ``[N, 3, size, size]``; it must fit in memory."""
    pixels = torch.empty(len(images), 3, recipe.size, recipe.size, dtype=torch.uint8)
    with ThreadPoolExecutor(usable_cores()) as pool, progress(what, total=len(images), unit="img") as advance:
        for start in range(0, len(images), BLOCK):
            block = images[start : start + BLOCK]
            for place, square in enumerate(pool.map(recipe, block), start):
                pixels[place] = square
            advance(len(block))
    return pixels
