"""Optimal transport: labelled features move to the target's images, as little in all as they can."""

from __future__ import annotations

import math

import torch

from tasks.train.adaptation.alignment import Aligned
from tasks.train.targets import Labelled

MOST = 1_024
"""Images of a domain that are transported, or transported to. A plan between as many is 8 MB, of which some are held
at a time, and takes seconds on one core; time and memory grow with the square."""

ROUNDS = 10
"""Plans in a row, each of which draws an image of the target to the class that it was given most of by the last."""

STEPS = 20
"""Scalings of a kernel between two steps on logarithms."""

AT_MOST = 50
"""Kernels of a plan."""

NEAR = 1e-6
"""Mass that may be missing from where it belongs, of 1 in all."""

EXTREME = 1e100
"""Scalings beyond are not believed: they are of kernels that have underflowed."""

POWER, LEAST = 0.5, 1e-3
"""Exponent of the class regularisation, and what is added to a class's share, so that its slope is finite at none."""


def transported(
    train: Labelled, validation: Labelled, target: torch.Tensor, entropy: float, class_regularisation: float,
    seed: int = 0,
) -> Aligned:  # fmt: skip
    """The source's features where a plan takes them: each to the mean of the target's images that it is sent to,
    weighed by how much of it goes there (Courty, Flamary, Tuia & Rakotomamonjy 2017, "Optimal transport for domain
    adaptation", 3.4).

    Of each domain up to `MOST` images, drawn by ``seed``, take part in the plan. All others of the source, and the
    validation images, move by as much as their nearest neighbour among those (Ferradans, Papadakis, Peyré & Aujol 2014,
    "Regularized discrete optimal transport").

    Args:
        entropy, class_regularisation: see `class_regularised`; costs are squared distances in units of their mean.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn, places = (torch.randperm(len(images), generator=generator)[:MOST] for images in (train[0], target))
    source, target = train[0][drawn], target[places]
    cost = torch.cdist(source, target).square().double()
    cost /= cost.mean().clamp(min=torch.finfo(torch.float32).tiny)
    plan = class_regularised(cost, train[1][drawn], entropy, class_regularisation)
    landed = (plan / plan.sum(1, keepdim=True)).to(target.dtype) @ target
    features = carried(train[0], source, landed - source)
    features[drawn] = landed
    return Aligned((features, train[1]), (carried(validation[0], source, landed - source), validation[1]))


def carried(images: torch.Tensor, known: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
    """Images ``[N, width]`` that have moved by as much as their nearest of ``known`` ``[K, width]``, whose moves these
    are."""
    nearest = [torch.cdist(part, known).argmin(1) for part in images.split(MOST)]
    return images + moves[torch.cat(nearest)]


def class_regularised(
    cost: torch.Tensor, labels: torch.Tensor, entropy: float, strength: float
) -> torch.Tensor:  # fmt: skip
    """The plan γ float64 ``[N, M]`` between images of equal mass that minimises

        Σ γᵢⱼ costᵢⱼ + entropy · Σ γᵢⱼ log γᵢⱼ + strength · Σⱼ 1/M Σ_c (share of class c in what image j is given)^½

    by majorisation: the last term, which is least where an image of the target is given one class only, is replaced by
    its tangent at the last plan, `ROUNDS` times, and only the last plan is found to the end (Courty, Flamary & Tuia
    2014, "Domain adaptation with regularized optimal transport", 3; of shares rather than masses, so that ``strength``
    does not depend on how many images there are).

    Args:
        cost: float64 ``[N, M]``.
        labels: int64 ``[N]``, from 0.
    """
    if strength == 0:
        return entropic(cost, entropy)[0]
    plan, potential = entropic(cost, entropy, kernels=1)
    member = torch.nn.functional.one_hot(labels).to(cost)
    for left in reversed(range(ROUNDS)):
        shares = member.T @ plan / plan.sum(0)
        slopes = POWER * (shares + LEAST) ** (POWER - 1)
        plan, potential = entropic(cost + strength * slopes[labels], entropy, potential, 1 if left else AT_MOST)
    return plan


def entropic(
    cost: torch.Tensor, entropy: float, potential: torch.Tensor | None = None, kernels: int = AT_MOST
) -> tuple[torch.Tensor, torch.Tensor]:
    """The plan float64 ``[N, M]`` of least cost and most entropy that gives each row 1/N and each column 1/M, and the
    potential of the columns float64 ``[M]``, from which a plan of a similar cost can start.

    Sinkhorn's iteration (Cuturi 2013), alternating between logarithms, which never underflow, and a few dozen steps on
    a kernel that is made of the last potentials (Schmitzer 2019, "Stabilized sparse scaling algorithms for entropy
    regularized transport problems", 3.1), each a fifth of the price. Columns are exact; rows are up to `NEAR` or, where
    as many kernels do not get as far, as near as they get.
    """
    count, places = cost.shape
    theirs = cost.new_zeros(places) if potential is None else potential
    for _ in range(kernels):
        ours = -entropy * (((theirs - cost) / entropy).logsumexp(1) + math.log(count))
        theirs = -entropy * (((ours[:, None] - cost) / entropy).logsumexp(0) + math.log(places))
        kernel = ((ours[:, None] + theirs - cost) / entropy).exp()
        rows, columns = _scaled(kernel)
        if max(part.abs().max() for part in (rows.log(), columns.log())) < math.log(EXTREME):
            ours, theirs = ours + entropy * rows.log(), theirs + entropy * columns.log()
            kernel = rows[:, None] * kernel * columns
        if (kernel.sum(1) - 1 / count).abs().sum() < NEAR:
            break
    return kernel, theirs


def _scaled(kernel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What rows ``[N]`` and columns ``[M]`` of a kernel are multiplied by, so that each row's sum is near 1/N and each
    column's is 1/M."""
    count, places = kernel.shape
    columns = kernel.new_ones(places)
    for _ in range(STEPS):
        rows = 1 / (count * (kernel @ columns))
        columns = 1 / (places * (rows @ kernel))
    return rows, columns
