"""Alignment in closed form: labelled features are brought to where the target's are, and a linear head learns there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from tasks.train.adaptation.caution import Attempt
from tasks.train.fusion.parts import Part
from tasks.train.heads import Head
from tasks.train.solvers import fit_linear
from tasks.train.targets import Labelled


@dataclass(frozen=True)
class Aligned:
    """Labelled images as if they were of the target.

    Attributes:
        train, validation: features float32 ``[N, d]`` and labels.
        axes: what standardised features of the target are multiplied by to be held against these, ``[width, d]``; None
            where d is the width, and they are as they are.
    """

    train: Labelled
    validation: Labelled
    axes: torch.Tensor | None = None


Align = Callable[[Labelled, Labelled, torch.Tensor], Aligned]
"""Brings images of train and validation, and their labels, to the target's ``[N, width]``; each domain is standardised
by its own statistics."""


def both(
    train: Labelled, validation: Labelled, unlabelled: torch.Tensor, classes: int, align: Align,
    parts: Sequence[Part] = (),
) -> tuple[Attempt, Attempt]:  # fmt: skip
    """Linear heads for the source as it is, and for the target. The latter learns from what was aligned, and is served
    with the target's statistics."""
    ours, theirs = (
        Head(images.shape[1], classes, parts=parts).standardise_like(images) for images in (train[0], unlabelled)
    )
    source, choosing = ((ours.standardised(features), labels) for features, labels in (train, validation))
    target = theirs.standardised(unlabelled)
    aligned = align(source, choosing, target)
    adapted = fit_linear(aligned.train, aligned.validation, classes, parts=parts if aligned.axes is None else ())
    plain = fit_linear(train, validation, classes, parts=parts)
    with torch.no_grad():
        validated = adapted.head(aligned.validation[0])
        adapted.head = folded(adapted.head, aligned.axes, theirs)
        return (
            Attempt(plain, plain.head(unlabelled), (plain.head(validation[0]), validation[1])),
            Attempt(adapted, adapted.head(unlabelled), (validated, validation[1])),
        )


def folded(head: Head, axes: torch.Tensor | None, standard: Head) -> Head:
    """One linear head in place of three steps: features are standardised, multiplied by ``axes`` and handed to a linear
    head, which standardises once more.

    W((zA - m)/s) + b is W'z + b' with W' = (W/s)Aᵀ and b' = b - W(m/s).

    Args:
        standard: whose statistics and parts the features are standardised with.
    """
    assert isinstance(head.layers, nn.Linear)
    made = Head(standard.width, head.classes, parts=standard.parts)
    assert isinstance(made.layers, nn.Linear)
    weight = head.layers.weight.data / head.std
    made.layers.bias.data = head.layers.bias.data - weight @ head.mean
    made.layers.weight.data = weight if axes is None else weight @ axes.T
    made.mean.copy_(standard.mean)
    made.std.copy_(standard.std)
    return made.eval()
