"""A branch of the network for each domain, drawn together by an adversary."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tasks.train.adaptation.config import AdaptationConfig
from tasks.train.adaptation.domains import Domains, Learned
from tasks.train.adaptation.fit import activations, take_step, train
from tasks.train.adaptation.terms import Adversary
from tasks.train.heads import Head


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

    def learn_from(source: torch.Tensor, target: torch.Tensor, over: float) -> float:
        with torch.no_grad():
            known = activations(ours, domains.source[0][source]).hidden
        hidden = activations(theirs, domains.target[target]).hidden
        told = take_step(tells, _taken(adversary(known), True) + _taken(adversary(hidden.detach()), False))
        take_step(hides, _taken(adversary(hidden), True))
        return told

    return train(head, section, domains, seed, epochs, [tells, hides], learn_from)


def _taken(logits: torch.Tensor, for_source: bool) -> torch.Tensor:
    """How far images are from being taken for the source's, or the target's."""
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(for_source)))
