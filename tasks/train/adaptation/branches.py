"""A branch of the network for each domain, drawn together by an adversary."""

from __future__ import annotations

from copy import deepcopy

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.lr_scheduler import CosineAnnealingLR

from tasks.progress import progress
from tasks.train.adaptation.config import AdaptationConfig
from tasks.train.adaptation.domains import Domains, Learned
from tasks.train.adaptation.fit import activations, draw, steps_of
from tasks.train.adaptation.terms import Adversary
from tasks.train.heads import Head
from tasks.train.targets import measured


def branch_off(
    plain: Head, section: AdaptationConfig, domains: Domains, seed: int, epochs: int, learning_rate: float
) -> Learned:
    """The head as the target sees through it, whose hidden layer begins as the source's and learns to be taken for it
    (ADDA, Tzeng et al. 2017, "Adversarial discriminative domain adaptation", eq. 9).

    An adversary D learns to tell the source's hidden layer from the target's, -log D(h_s) - log(1 - D(h_t)), and the
    target's to be taken for the source's, -log D(h_t). The source's branch and the layer of classes stay as they are.

    Args:
        plain: what has learned from the source's labels.
        epochs, learning_rate: of the target's branch; the adversary's step size, and batches, are the section's.
    """
    torch.manual_seed(seed)
    head = deepcopy(plain)
    theirs, ours = head.layers, plain.layers
    assert isinstance(theirs, nn.Sequential) and isinstance(ours, nn.Sequential)
    adversary = Adversary(section.hidden).layers.to(domains.target.device)
    tells = torch.optim.AdamW(
        adversary.parameters(), lr=section.learning_rate, weight_decay=section.weight_decay, fused=True
    )
    # No decay: it would draw the branch to zero, not to where it came from.
    hides = torch.optim.AdamW(theirs[0].parameters(), lr=learning_rate, weight_decay=0, fused=True)
    steps, generator = steps_of(section, domains), torch.Generator().manual_seed(seed)
    schedules = [CosineAnnealingLR(optimiser, epochs * steps) for optimiser in (tells, hides)]
    rows = []
    with progress("train", epochs, "epoch") as advance:
        for epoch in range(epochs):
            total = 0.0
            for _ in range(steps):
                chosen = draw(section, domains, generator)
                with torch.no_grad():
                    source = activations(ours, domains.source[0][chosen[0]]).hidden
                target = activations(theirs, domains.target[chosen[1]]).hidden
                total += _step(tells, _taken(adversary(source), True) + _taken(adversary(target.detach()), False))
                _step(hides, _taken(adversary(target), True))
                for schedule in schedules:
                    schedule.step()
            with torch.inference_mode():
                seen = measured("validation", theirs(domains.validation[0]), domains.validation[1])
            rows.append({"step": epoch + 1, "train/loss": total / steps} | seen)
            advance(1)
    return Learned(head, pd.DataFrame(rows))


def _taken(logits: torch.Tensor, for_source: bool) -> torch.Tensor:
    """How far images are from being taken for the source's, or the target's."""
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(for_source)))


def _step(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> float:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return float(loss.detach())
