"""CORAL: labelled features are given the covariance of the target's, and a linear head learns from them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from tasks.progress import tell
from tasks.train.adaptation.criteria import Verdict
from tasks.train.adaptation.hedging import shares, together
from tasks.train.fusion.parts import Part
from tasks.train.heads import Head
from tasks.train.solvers import Fit, fit_linear
from tasks.train.targets import Labelled
from tasks.train.task import Task

MOST = 2_048
"""Images that a covariance of more units than that is measured on: 200 MB where there are 25,000 units."""


class Covariance:
    """C + shrinkage·I of standardised images float32 ``[N, width]``; shrinkage is in units of a feature's variance.

    Only axes along which the images vary are held, at most as many as images: along all others it is shrinkage·I.
    """

    def __init__(self, images: torch.Tensor, shrinkage: float) -> None:
        count, width = images.shape
        if count > MOST and width > MOST:
            images = images[torch.randperm(count, generator=torch.Generator().manual_seed(0))[:MOST]]
        centred = (images - images.mean(0)) / math.sqrt(max(1, len(images) - 1))
        if len(images) < width:
            _, spread, axes = torch.linalg.svd(centred, full_matrices=False)
            self.values, self.axes = spread.square(), axes.T
        else:
            values, self.axes = torch.linalg.eigh(centred.T @ centred)
            self.values = values.clamp(min=0)
        self.shrinkage = shrinkage

    def power(self, images: torch.Tensor, exponent: float) -> torch.Tensor:
        """Images ``[N, width]`` times this matrix to the power of ``exponent``."""
        others = self.shrinkage**exponent
        along = (self.values + self.shrinkage) ** exponent - others
        return others * images + (images @ self.axes * along) @ self.axes.T


def fit_coral(task: Task, shrinkage: float, cautious: bool) -> Fit:
    """The head that `both` gives for the target or, where caution is asked for, it and the one for the source together
    (`tasks.train.adaptation.hedging`) or, where it is not trusted (`Verdict`), the latter alone."""
    plain, adapted = both(task.train, task.validation, task.unlabelled, task.classes, shrinkage, task.counted)
    with torch.inference_mode():
        logits = [fit.head(task.unlabelled) for fit in (plain, adapted)]
    verdict = Verdict.of(logits[1].softmax(1), logits[0].softmax(1))
    better = not cautious or verdict.trusted
    if not better:
        tell("train\tcoral: criteria do not agree that it does good, so the head is kept that is not adapted")
    kept = adapted if better else plain
    kept.chosen = kept.chosen | verdict.chosen(better)
    if cautious and better:
        kept.head = together((plain.head, adapted.head), shares(*logits))
    return kept


def both(
    train: Labelled, validation: Labelled, unlabelled: torch.Tensor, classes: int, shrinkage: float,
    parts: Sequence[Part] = (),
) -> tuple[Fit, Fit]:  # fmt: skip
    """Linear heads for the source as it is, and for the target.

    The latter learns from z C_s^(-1/2) C_t^(1/2), z being the source's features, whitened by their own covariance and
    given the target's (CORAL, Sun, Feng & Saenko 2016, "Return of frustratingly easy domain adaptation", algorithm 1).
    Each domain is standardised by its own statistics first, and the head is served with the target's.
    """
    ours, theirs = (
        Head(images.shape[1], classes, parts=parts).standardise_like(images) for images in (train[0], unlabelled)
    )
    source = Covariance(ours.standardised(train[0]), shrinkage)
    target = Covariance(theirs.standardised(unlabelled), shrinkage)
    recoloured = [
        (target.power(source.power(ours.standardised(features), -0.5), 0.5), labels)
        for features, labels in (train, validation)
    ]
    adapted = fit_linear(recoloured[0], recoloured[1], classes)
    head = adapted.head
    head.mean.mul_(theirs.std).add_(theirs.mean)
    head.std.mul_(theirs.std)
    return fit_linear(train, validation, classes, parts=parts), adapted
