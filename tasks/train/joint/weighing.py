"""How much the losses of tasks count that are learned at once. Weights are learned beside what they weigh."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

FAST = 20.0
"""How much larger the steps of weights are than those of the network, whose rates are made for slight changes (Chen et
al. 2018 take 0.025)."""


class Weighing(nn.Module):
    """Base of the weighings of ``count`` tasks: takes their losses ``[T]`` and the shared features, gives one loss."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    @property
    def weights(self) -> torch.Tensor:
        """What losses are multiplied by, ``[T]``."""
        raise NotImplementedError

    def forward(self, losses: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return (self.weights * losses).sum()


class Fixed(Weighing):
    """Weights that stay."""

    given: torch.Tensor

    def __init__(self, weights: Sequence[float]) -> None:
        super().__init__(len(weights))
        self.register_buffer("given", torch.tensor(weights))

    @property
    def weights(self) -> torch.Tensor:
        return self.given


class Uncertainty(Weighing):
    """Σᵢ exp(-sᵢ)·Lᵢ + ½ sᵢ with sᵢ = log σᵢ² learned (Kendall, Gal & Cipolla 2018, "Multi-task learning using
    uncertainty to weigh losses for scene geometry and semantics", eq. 7 and 10), of cross-entropies and of halves of
    squared errors. At its minimum exp(sᵢ) = 2 Lᵢ."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.logs = nn.Parameter(torch.zeros(count))

    @property
    def weights(self) -> torch.Tensor:
        return (-fast(self.logs)).exp()

    def forward(self, losses: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return super().forward(losses, features) + fast(self.logs).sum() / 2


class GradNorm(Weighing):
    """Weights wᵢ, whose sum is the number of tasks, that minimise Σᵢ |Gᵢ - Ḡ·rᵢᵅ| / Ḡ (Chen et al. 2018, "GradNorm:
    gradient normalization for adaptive loss balancing in deep multitask networks", eq. 2): Gᵢ is the norm of the
    gradient of wᵢ·Lᵢ, Ḡ their mean, rᵢ how much of its first loss a task still has, by the mean of all.

    Gradients are those by the shared features, not by the weights of the last layer that makes them: they are at hand
    without a pass through any layer.
    """

    first: torch.Tensor

    def __init__(self, count: int, alpha: float) -> None:
        super().__init__(count)
        self.alpha = alpha
        self.logs = nn.Parameter(torch.zeros(count))
        self.register_buffer("first", torch.full((count,), torch.nan))

    @property
    def weights(self) -> torch.Tensor:
        return self.count * fast(self.logs).softmax(0)

    def forward(self, losses: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        weights = self.weights
        weighed = (weights.detach() * losses).sum()
        if not (features.requires_grad and torch.is_grad_enabled()):
            return weighed + 0 * weights.sum()
        slopes = [torch.autograd.grad(loss, features, retain_graph=True)[0].float().norm() for loss in losses]
        return weighed + self._unbalance(weights, losses.detach(), torch.stack(slopes).detach())

    def _unbalance(self, weights: torch.Tensor, losses: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        there = (slopes > 0) & (losses > 0)  # a batch may have no label of a task
        self.first.copy_(torch.where(self.first.isnan() & there, losses, self.first))
        if there.sum() < 2:
            return 0 * weights.sum()
        left = losses[there] / self.first[there]
        norms = weights[there] * slopes[there]
        mean = norms.detach().mean()
        wanted = mean * (left / left.mean()) ** self.alpha
        return (norms - wanted).abs().sum() / mean


def fast(logs: torch.Tensor) -> torch.Tensor:
    """`FAST` times as large as ``logs``, with their gradient: so steps are longer, and gradients, which are clipped
    together with the network's, no larger."""
    return FAST * logs.detach() + (logs - logs.detach())
