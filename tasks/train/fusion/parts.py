"""The parts that features are put together from, and how much each counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Part(NamedTuple):
    """One layer of one backbone.

    Attributes:
        width: its features.
        weight: how much it counts beside the others, by their standard deviation.
    """

    width: int
    weight: float = 1.0


def parts_of(widths: Sequence[int]) -> tuple[Part, ...]:
    """Parts that all count alike."""
    return tuple(Part(width) for width in widths)


def scales(parts: Sequence[Part]) -> list[float]:
    """What the standardised features of each part are divided by.

    Features of variance 1 would have a wide part drown a narrow one: distances and regularised weights go by the sum of
    the variances. Divided by sₖ = (W / wₖ) √(K dₖ / D), with dₖ the width of a part of K, D of all, wₖ its weight and W
    the root mean square of the weights, the variances of a part add up to D/K · (wₖ/W)², and those of all to D, as of a
    single part. So one range of regularisation fits however many there are.
    """
    width = sum(part.width for part in parts)
    mean = (sum(part.weight**2 for part in parts) / len(parts)) ** 0.5
    return [mean / part.weight * (len(parts) * part.width / width) ** 0.5 for part in parts]
