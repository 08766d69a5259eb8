"""What is served, where nobody can see on the target whether adapting did good: the rule that all methods obey."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from tasks.progress import tell
from tasks.train.adaptation.config import LEAST_AGREEMENT
from tasks.train.adaptation.criteria import Verdict
from tasks.train.adaptation.hedging import shares, together
from tasks.train.solvers import Fit
from tasks.train.targets import Labelled, merit


@dataclass(frozen=True)
class Attempt:
    """A model as it would be served, and what it answers.

    Attributes:
        logits: on the target, float32 ``[N, C]``.
        validated: logits ``[V, C]`` on the validation images, as images of their own domain, and their labels ``[V]``;
            None where the model is no head on cached features, which could be one with another.
    """

    fit: Fit
    logits: torch.Tensor
    validated: Labelled | None = None


def keep(
    method: str, plain: Attempt, adapted: Attempt, cautious: bool, least_agreement: float = LEAST_AGREEMENT
) -> Fit:
    """The adapted model or, where caution is asked for, it and one that has seen no image of the target together
    (`tasks.train.adaptation.hedging`) or, where the adapted one is not trusted (`Verdict`), the latter alone."""
    verdict = Verdict.of(*(attempt.logits.softmax(1) for attempt in (adapted, plain)))
    taken = not cautious or verdict.trusted(least_agreement)
    if not taken:
        tell(f"train\t{method}: criteria do not agree that it does good, so the model is kept that is not adapted")
    fit = (adapted if taken else plain).fit
    if taken and cautious:
        fit = hedged(plain, adapted)
    elif taken and adapted.validated is not None:
        fit = replace(fit, validated=adapted.validated[0])
    return replace(fit, chosen=fit.chosen | verdict.chosen(taken))


def hedged(plain: Attempt, adapted: Attempt) -> Fit:
    """The adapted model, two heads as one where these are heads on cached features."""
    if plain.validated is None or adapted.validated is None:
        return adapted.fit
    (ours, labels), (theirs, _) = plain.validated, adapted.validated
    weights = shares(plain.logits, adapted.logits)
    head = together((plain.fit.head, adapted.fit.head), weights)
    validated = weights[0] * ours + weights[1] * theirs
    return replace(adapted.fit, head=head, score=merit(validated, labels), validated=validated)
