"""Words that configurations and the code behind them share."""

from __future__ import annotations

from typing import Literal

Augment = Literal["none", "flip", "crop", "trivial", "rand"]
"""Random views of an image: mirrored; random parts of it, too; and these with TrivialAugment or RandAugment."""

Views = Literal["one", "mirrored", "ten"]
"""What a network sees of an image; of several views, features are averaged."""

VIEWS: dict[Views, int] = {"one": 1, "mirrored": 2, "ten": 10}
"""How many these are."""

Interpolation = Literal["bilinear", "bicubic"]
"""How an image is scaled."""
