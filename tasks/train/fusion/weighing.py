"""How much each part counts, chosen on validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.train.method import Method

if TYPE_CHECKING:
    from tasks.train.fusion.parts import Part
    from tasks.train.solvers import Fit

FACTORS = (0.25, 0.5, 2.0)
"""Times its weight that each part is tried with."""

Fits = Callable[[tuple["Part", ...]], "Fit"]


class Weighing(Method):
    """Base of the methods whose heads go by how large features are."""

    weigh: bool = False
    """Of features of several backbones or layers: whether how much each counts is chosen on validation, by a few more
    fits for each; else networks count alike, and layers of one by their widths, where `weigh` begins, too."""

    def weighed(self, fit: Fits, parts: tuple[Part, ...]) -> Fit:
        """The fit with all parts as they are or, where asked for and there are several, with the weights that let it
        expect the validation images' labels most: from parts that count alike or by their widths, whichever is better,
        the best of `FACTORS` is kept of one part after the other."""
        best = fit(parts)
        if not self.weigh or len(parts) == 1:
            return best
        by_width = tuple(part._replace(weight=part.width**0.5) for part in parts)
        best = min((best, fit(by_width)), key=_loss)
        parts = best.head.parts
        for place in range(len(parts)):
            for factor in FACTORS:
                changed = parts[place]._replace(weight=factor * parts[place].weight)
                other = fit((*parts[:place], changed, *parts[place + 1 :]))
                if _loss(other) < _loss(best):
                    best = other
            parts = best.head.parts
        weights = {f"weight_{place}": part.weight for place, part in enumerate(parts, 1)}
        return replace(best, chosen=best.chosen | weights)


def _loss(fit: Fit) -> float:
    return float(fit.curves["validation/loss"].min())
