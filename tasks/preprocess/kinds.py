"""Words that configurations and the code behind them share."""

from __future__ import annotations

from typing import Literal

Augment = Literal["none", "flip", "crop", "trivial", "rand"]
"""Random views of an image: mirrored; random parts of it, too; and these with TrivialAugment or RandAugment."""

Interpolation = Literal["bilinear", "bicubic"]
"""How an image is scaled."""
