"""Networks over the features of several parts, which stand side by side ``[N, d₁ + … + d_K]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import log_softmax, logsigmoid


class Views(NamedTuple):
    """What a gated network makes of images.

    Attributes:
        shared, private: float32 ``[N, K, hidden]``, of each part.
        gates: float32 ``[N, K]``, how much each part counts; 1 on average.
    """

    shared: torch.Tensor
    private: torch.Tensor
    gates: torch.Tensor


class Gated(nn.Module):
    """Gated fusion: what the parts of an image have in common, and what each knows alone, weighed image by image.

    Of the features xₖ of part k of K,

        aₖ = tanh(Aₖ xₖ)                         shared: trained to be what the other parts say, too
        bₖ = tanh(Bₖ xₖ)                         private
        g  = K · softmax(G [a₁ b₁ … a_K b_K])    a gate for each part
        z  = [Σₖ gₖ aₖ / K,  g₁ b₁, …, g_K b_K]
        logits = W z + c

    The gate is that of gated multimodal units (Arevalo et al. 2017, "Gated multimodal units for information fusion",
    3.1), with one number for each part in place of one for each hidden unit, so that it says how much a part counts.
    """

    def __init__(self, widths: Sequence[int], classes: int, hidden: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.widths = list(widths)
        count = len(self.widths)
        self.projections = nn.ModuleList(nn.Linear(width, 2 * hidden) for width in self.widths)
        self.gate = nn.Linear(2 * count * hidden, count)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear((1 + count) * hidden, classes)
        self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        """Projections of variance 1 where the variances of each part add up to D/K, as `Head` has them; even gates."""
        for projection in self.projections:
            assert isinstance(projection, nn.Linear)
            nn.init.normal_(projection.weight, std=(len(self.widths) / sum(self.widths)) ** 0.5)
            nn.init.zeros_(projection.bias)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def views(self, features: torch.Tensor) -> Views:
        """What there is to be weighed of features ``[N, D]``, and the weights."""
        parts = zip(self.projections, features.split(self.widths, dim=1), strict=True)
        hidden = torch.stack([projection(part) for projection, part in parts], dim=1).tanh()
        shared, private = hidden.chunk(2, dim=2)
        gates = len(self.widths) * self.gate(hidden.flatten(1)).softmax(1)
        return Views(shared, private, gates)

    def answer(self, views: Views) -> torch.Tensor:
        """Logits ``[N, classes]``."""
        gates = views.gates[:, :, None]
        fused = torch.cat([(gates * views.shared).mean(1), (gates * views.private).flatten(1)], dim=1)
        return self.classifier(self.dropout(fused))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.answer(self.views(features))


class Ensemble(nn.Module):
    """A linear head for each part; the logarithm of the weighted mean of their probabilities or, where an image may
    have ``several`` labels, of its odds: so that softmax, or sigmoid, gives that mean."""

    shares: torch.Tensor

    def __init__(self, widths: Sequence[int], classes: int, several: bool = False) -> None:
        super().__init__()
        self.widths, self.several = list(widths), several
        self.members = nn.ModuleList(nn.Linear(width, classes) for width in self.widths)
        self.register_buffer("shares", torch.full((len(self.widths),), 1 / len(self.widths)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        parts = zip(self.members, features.split(self.widths, dim=1), strict=True)
        return pooled(torch.stack([member(part) for member, part in parts]), self.shares, self.several)


def pooled(logits: torch.Tensor, shares: torch.Tensor, several: bool) -> torch.Tensor:
    """Logits ``[N, classes]`` of the mean of the probabilities that logits ``[K, N, classes]`` stand for, with weights
    ``[K]`` that add up to 1 (a linear opinion pool)."""
    weights = shares.log()[:, None, None]
    if not several:
        return (log_softmax(logits, dim=2) + weights).logsumexp(0)
    there, absent = ((logsigmoid(sign * logits) + weights).logsumexp(0) for sign in (1, -1))
    return there - absent
