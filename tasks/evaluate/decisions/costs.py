"""What answers cost where some mistakes are worse than others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tasks.evaluate.config import OTHERS
from tasks.evaluate.scores.intervals import Figures

Costs = Mapping[str, Mapping[str, float]]
"""For a true class, what each class that is given costs; what is not named costs 1, a right answer 0."""


def cost_matrix(costs: Costs, classes: Sequence[str]) -> np.ndarray:
    """Costs float64 ``[C, C]``: rows are true classes, columns given ones. Names of other classes are left aside."""
    return np.array([
        [costs.get(true, {}).get(given, 0.0 if given == true else costs.get(true, {}).get(OTHERS, 1.0))
         for given in classes]
        for true in classes
    ])  # fmt: skip


def costs_of(labels: np.ndarray, probabilities: np.ndarray, costs: np.ndarray) -> dict[str, np.ndarray]:
    """What each image costs, float64 ``[N]``: ``cost`` of the most probable class, ``cost_minimised`` of the class
    whose expected cost is the least by the probabilities (Elkan 2001, "The foundations of cost-sensitive learning",
    eq. 1).

    Args:
        labels: int ``[N]``; probabilities: ``[N, C]``; costs: see `cost_matrix`.
    """
    cheapest = (probabilities @ costs).argmin(1)
    return {"cost": costs[labels, probabilities.argmax(1)], "cost_minimised": costs[labels, cheapest]}


def cheapest_constant(labels: np.ndarray, costs: np.ndarray) -> int:
    """The class that costs least if every image is given it, whatever it shows."""
    return int(costs[labels].sum(0).argmin())


def mean_of(by_image: Mapping[str, np.ndarray]) -> Figures:
    """Means of what each image costs, or of other figures float ``[N]`` of each, as a function of weights."""
    return lambda weights: {name: weights @ each / weights.sum(1) for name, each in by_image.items()}
