"""Fitting a head to labelled features of some domains and unlabelled ones of another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR

from tasks.progress import progress
from tasks.train.adaptation.caution import Attempt, keep
from tasks.train.adaptation.config import AdaptationConfig
from tasks.train.adaptation.criteria import Criteria, judge
from tasks.train.adaptation.domains import Domains, Learned
from tasks.train.adaptation.hedging import together
from tasks.train.adaptation.terms import Activations, Nothing, Term
from tasks.train.heads import Head
from tasks.train.solvers import Fit
from tasks.train.targets import measured

LEAST_STEPS = 20
"""Steps of an epoch, where there are few labelled images."""
APART = 1_000_003
"""How far the seeds of heads lie from each other that are served as one."""


@dataclass(frozen=True)
class Trained:
    """A head as it would be served, its curves, its logits ``[N, C]`` on the target and on the validation images, each
    standardised by its own domain, and what can be said of these."""

    head: Head
    curves: pd.DataFrame
    logits: torch.Tensor
    validated: torch.Tensor
    criteria: Criteria


def adapt(section: AdaptationConfig, domains: Domains, seed: int) -> Fit:
    """What caution keeps (`tasks.train.adaptation.caution.keep`) of the adapted head and a plain one, which learned
    without the section's term and is served with the source's statistics.

    Both see the images in the same order, from the same weights. No label of the target is in reach, so the last epoch
    is kept.
    """
    plain, adapted = (
        Attempt(
            Fit(trained.head, trained.criteria.source, {}, trained.curves),
            trained.logits,
            (trained.validated, domains.validation[1]),
        )
        for trained in both(section, domains, seed)
    )
    return keep(section.method, plain, adapted, section.cautious, section.least_agreement)


def both(
    section: AdaptationConfig, domains: Domains, seed: int, unadapted: Learned | None = None
) -> tuple[Trained, Trained]:
    """The plain head and the adapted one.

    Args:
        unadapted: what `learn` gave without a term, where that is at hand.
    """
    unadapted = unadapted or learn(section, domains, seed)
    adapted = section.adapted(unadapted, domains, seed)
    return serve(unadapted, domains, adapted=False), serve(adapted, domains, adapted=True)


def serve(learned: Learned, domains: Domains, adapted: bool) -> Trained:
    """A head with the statistics of the domain that it is served on: the target's or, not adapted, the source's."""
    head = deepcopy(learned.head)
    served, target = (domains.theirs, domains.target) if adapted else (domains.ours, domains.unadapted)
    with torch.inference_mode():
        validated, logits = head.layers(domains.validation[0]), head.layers(target)
        criteria = judge((validated, domains.validation[1]), domains.ratios, logits.softmax(1))
    head.mean.copy_(served.mean)
    head.std.copy_(served.std)
    return Trained(head.eval(), learned.curves, logits, validated, criteria)


def learn(
    section: AdaptationConfig, domains: Domains, seed: int, term_of: Callable[[int], Term] | None = None,
    strength: float = 1.0,
) -> Learned:  # fmt: skip
    """`section.heads` heads as one; the arguments are those of `learn_one`."""
    seeds = [seed + number * APART for number in range(section.heads)]
    return mean_of([learn_one(section, domains, each, term_of, strength) for each in seeds])


def mean_of(learned: Sequence[Learned]) -> Learned:
    """Several heads as one, whose logits are their mean, and their mean curves."""
    if len(learned) == 1:
        return learned[0]
    head = together([each.head for each in learned], [1 / len(learned)] * len(learned))
    curves = pd.concat([each.curves for each in learned]).groupby("step", as_index=False).mean()
    return Learned(head, curves, tuple(learned))


def learn_one(
    section: AdaptationConfig, domains: Domains, seed: int, term_of: Callable[[int], Term] | None = None,
    strength: float = 1.0,
) -> Learned:  # fmt: skip
    """A head that has learned from the source's labels and, by a term, from the target's images.

    Args:
        term_of: makes the term for a number of classes, once the seed is set and the head drawn.
        strength: how much the term counts.
    """
    torch.manual_seed(seed)
    features, labels = domains.source
    head = Head(features.shape[1], domains.classes, section.hidden).to(features.device)
    layers = head.layers
    assert isinstance(layers, nn.Sequential)
    term = term_of(domains.classes) if term_of else Nothing()
    learned = [*layers.parameters(), *term.to(features.device).parameters()]
    optimiser = torch.optim.AdamW(learned, lr=section.learning_rate, weight_decay=section.weight_decay, fused=True)

    def learn_from(ours: torch.Tensor, theirs: torch.Tensor, over: float) -> float:
        source = activations(layers, features[ours])
        loss = cross_entropy(source.logits, labels[ours], label_smoothing=section.label_smoothing)
        return take_step(optimiser, loss + strength * term(source, activations(layers, domains.target[theirs]), over))

    return train(head, section, domains, seed, section.epochs, [optimiser], learn_from)


def train(
    head: Head, section: AdaptationConfig, domains: Domains, seed: int, epochs: int,
    optimisers: Sequence[torch.optim.Optimizer], learn_from: Callable[[torch.Tensor, torch.Tensor, float], float],
) -> Learned:  # fmt: skip
    """Pass over batches of both domains so often, with rates that fall to zero along a cosine, and look at the
    validation images after each epoch.

    Args:
        learn_from: takes a step on images of the source and of the target, by number, when so large a share of the
            training is over, and returns the loss.
    """
    steps = max(LEAST_STEPS, len(domains.source[0]) // section.batch_size)
    schedules = [CosineAnnealingLR(optimiser, epochs * steps) for optimiser in optimisers]
    generator = torch.Generator().manual_seed(seed)
    rows = []
    with progress("train", epochs, "epoch") as advance:
        for epoch in range(epochs):
            total = 0.0
            for step in range(steps):
                ours, theirs = (
                    torch.randint(len(images), (section.batch_size,), generator=generator)
                    for images in (domains.source[0], domains.target)
                )
                total += learn_from(ours, theirs, (epoch * steps + step) / (epochs * steps))
                for schedule in schedules:
                    schedule.step()
            with torch.inference_mode():
                seen = measured("validation", head.layers(domains.validation[0]), domains.validation[1])
            rows.append({"step": epoch + 1, "train/loss": total / steps} | seen)
            advance(1)
    return Learned(head, pd.DataFrame(rows))


def take_step(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> float:
    """Step down a loss; returns it."""
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return float(loss.detach())


def activations(layers: nn.Sequential, images: torch.Tensor) -> Activations:
    """What a head's layers make of standardised features."""
    hidden = layers[1](layers[0](images))
    return Activations(hidden, layers[2](hidden))
