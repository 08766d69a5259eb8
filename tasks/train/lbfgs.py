"""L-BFGS (Nocedal 1980; Liu & Nocedal 1989) for many problems at once.

The problems are independent: each has its own history, direction and step. They share the passes over the data: one
call evaluates the next point of every problem that is not done yet, and problems that are done drop out of the calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from tasks.progress import Advance

Evaluate = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""Takes points ``[A, D]`` and the numbers int64 ``[A]`` of the problems that they belong to; gives back values
float64 ``[A]``, gradients ``[A, D]`` and the sizes ``[A]`` of the gradients, in whatever measure counts."""

PAIRS = 10
"""Steps that a problem remembers. On hard logistic regressions five took 15% more passes and twenty 20% fewer; on easy
ones it made no difference."""

DECREASE = 1e-4
"""Least part of the predicted decrease that a step has to bring (Armijo)."""


@dataclass(frozen=True)
class Stop:
    """When a problem is done: its gradient's size is at most ``size``, and its value no further above the minimum than
    ``gap`` and the part ``share`` of itself, going by the curvature of the last step. Values are positive.

    A rise of ``noise`` or less may be rounding. A step that has to be cut below ``shortest`` shows that rounding hides
    the way down, and ``limit`` is the most passes over the data: the problem is left where it is.
    """

    size: float
    gap: float
    share: float
    noise: float
    shortest: float
    limit: int


class Descent:
    """``P`` problems of ``D`` unknowns on their way to their minima.

    Attributes:
        points: float32 ``[P, D]``, the best so far.
        values: float64 ``[P]``, and ``sizes``: float32 ``[P]``, of the gradients there.
        passes: int64 ``[P]``, evaluations so far.
        done: bool ``[P]``, whether the last run reached its stop.
    """

    def __init__(self, points: torch.Tensor) -> None:
        count = len(points)
        self.points = points
        self.values = points.new_full((count,), float("inf"), dtype=torch.float64)
        self.sizes = points.new_full((count,), float("inf"))
        self.passes = torch.zeros(count, dtype=torch.int64, device=points.device)
        self.done = torch.zeros(count, dtype=torch.bool, device=points.device)
        self._steps = points.new_zeros(PAIRS, *points.shape)
        self._changes = points.new_zeros(PAIRS, *points.shape)
        self._inverse = points.new_zeros(PAIRS, count)  # 1 / (step · change), 0 where there is no pair
        self._scale = points.new_ones(count)
        self._newest = 0

    def run(self, evaluate: Evaluate, stop: Stop, advance: Advance = lambda count: None) -> None:
        """Go on from where the problems are until each is done or stuck; ``advance`` hears of each that is."""
        active = torch.arange(len(self.points), device=self.points.device)
        self.done[:] = False
        point = self.points[active]
        value, gradient, size = evaluate(point, active)
        direction, step = self._direction(active, gradient), torch.ones_like(value)
        while True:
            self.points[active], self.values[active], self.sizes[active] = point, value, size
            self.passes[active] += 1
            gap = self._scale[active] / 2 * gradient.square().sum(1)
            reached = (size <= stop.size) & (gap <= stop.gap + stop.share * value)
            self.done[active] = reached
            going = ~reached & (step >= stop.shortest) & (self.passes[active] < stop.limit)
            if not going.all():
                advance(int((~going).sum()))
                if not going.any():
                    return
                active, point, value, gradient, size, direction, step = (
                    kept[going] for kept in (active, point, value, gradient, size, direction, step)
                )
            slope = _dot(gradient, direction)
            next_point = point + step.float()[:, None] * direction
            next_value, next_gradient, next_size = evaluate(next_point, active)
            good = next_value <= value + DECREASE * step * slope
            # Hager & Zhang 2005: where values differ by no more than rounding, the slope still tells.
            level = next_value <= value + stop.noise
            good |= level & (_dot(next_gradient, direction) <= (2 * DECREASE - 1) * slope)
            self._remember(active, good, next_point - point, next_gradient - gradient)
            rise = next_value - value - step * slope
            shorter = step * (-step * slope / (2 * rise)).nan_to_num(0.1, 0.1, 0.1).clamp(0.1, 0.5)
            step = torch.where(good, 1.0, shorter)
            value, size = torch.where(good, next_value, value), torch.where(good, next_size, size)
            moved = good[:, None]
            point, gradient = torch.where(moved, next_point, point), torch.where(moved, next_gradient, gradient)
            direction = torch.where(moved, self._direction(active, gradient), direction)

    def _remember(self, active: torch.Tensor, good: torch.Tensor, steps: torch.Tensor, changes: torch.Tensor) -> None:
        """Keep the newest pair of each problem; one that did not move, or met no curvature, gets an empty one."""
        curvature, length = _dot(steps, changes), _dot(changes, changes)
        useful = good & (curvature > 1e-10 * length)
        self._newest = (self._newest + 1) % PAIRS
        self._steps[self._newest, active] = torch.where(useful[:, None], steps, 0)
        self._changes[self._newest, active] = torch.where(useful[:, None], changes, 0)
        self._inverse[self._newest] = 0
        self._inverse[self._newest, active] = torch.where(useful, 1 / curvature, 0).float()
        self._scale[active] = torch.where(useful, (curvature / length).float(), self._scale[active])

    def _direction(self, active: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """The two-loop recursion (Nocedal & Wright 2006, algorithm 7.4), downhill."""
        order = [(self._newest - age) % PAIRS for age in range(PAIRS)]
        pairs = [(self._steps[at, active], self._changes[at, active], self._inverse[at, active]) for at in order]
        rest, shares = gradient, []
        for step, change, inverse in pairs:
            shares.append(inverse * (step * rest).sum(1))
            rest = rest - shares[-1][:, None] * change
        rest = self._scale[active][:, None] * rest
        for (step, change, inverse), share in zip(reversed(pairs), reversed(shares), strict=True):
            rest = rest + (share - inverse * (change * rest).sum(1))[:, None] * step
        return -rest


def _dot(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Dot products float64 ``[A]`` of rows."""
    return (first * second).sum(1, dtype=torch.float64)
