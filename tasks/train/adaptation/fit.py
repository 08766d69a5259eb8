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
    steps = steps_of(section, domains)
    schedule = CosineAnnealingLR(optimiser, section.epochs * steps)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    with progress("train", section.epochs, "epoch") as advance:
        for epoch in range(section.epochs):
            total = 0.0
            for step in range(steps):
                ours, theirs = draw(section, domains, generator)
                source = activations(layers, features[ours])
                loss = cross_entropy(source.logits, labels[ours], label_smoothing=section.label_smoothing)
                over = (epoch * steps + step) / (section.epochs * steps)
                loss = loss + strength * term(source, activations(layers, domains.target[theirs]), over)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                total += float(loss.detach())
            with torch.inference_mode():
                seen = measured("validation", layers(domains.validation[0]), domains.validation[1])
            rows.append({"step": epoch + 1, "train/loss": total / steps} | seen)
            advance(1)
    return Learned(head, pd.DataFrame(rows))


def steps_of(section: AdaptationConfig, domains: Domains) -> int:
    """Steps of an epoch."""
    return max(LEAST_STEPS, len(domains.source[0]) // section.batch_size)


def draw(section: AdaptationConfig, domains: Domains, generator: torch.Generator) -> list[torch.Tensor]:
    """A batch: images of the source and of the target, by number."""
    return [
        torch.randint(len(images), (section.batch_size,), generator=generator)
        for images in (domains.source[0], domains.target)
    ]


def activations(layers: nn.Sequential, images: torch.Tensor) -> Activations:
    """What a head's layers make of standardised features."""
    hidden = layers[1](layers[0](images))
    return Activations(hidden, layers[2](hidden))
