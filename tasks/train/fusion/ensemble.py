"""A linear head for each part, and the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import pandas as pd
import torch
from torch import nn

from tasks.train.calibration import temperature
from tasks.train.fusion.networks import Ensemble, pooled
from tasks.train.fusion.parts import Part, scales
from tasks.train.heads import Head
from tasks.train.solvers import Fit
from tasks.train.targets import Labelled, is_multi_label, measured, merit_column

STEPS = 1000
"""Of expectation and maximisation at most; a few dozen are the rule."""


def fit_ensemble(
    train: Labelled, validation: Labelled, parts: Sequence[Part], fit: Callable[[Labelled, Labelled], Fit]
) -> Fit:
    """A linear head for each part, with the temperature that suits the validation images, and the weights by which the
    mean of their probabilities gives the labels of these the highest likelihood.

    Args:
        fit: a linear head, to features to learn from and some to choose on.
    """
    places = _places(parts)
    fits = [fit(_columns(train, place), _columns(validation, place)) for place in places]
    with torch.no_grad():
        logits = [one.head(validation[0][:, place]) for one, place in zip(fits, places, strict=True)]
    return _joined(fits, torch.stack(logits), validation[1], parts)[0]


def fit_ensemble_cross_validated(images: Labelled, parts: Sequence[Part], fit: Callable[[Labelled], Fit]) -> Fit:
    """As `fit_ensemble`, where the heads learn from all images: temperatures and weights are chosen by what each image
    is given by heads of a cross-validation that had not learned from it, the same for each part.

    Args:
        fit: a linear head, by cross-validation.
    """
    fits = [fit(_columns(images, place)) for place in _places(parts)]
    logits = torch.stack([one.held_out for one in fits if one.held_out is not None])
    known = ~logits.isnan().any(2).any(0)
    joined, answers = _joined(fits, logits[:, known], images[1][known], parts)
    held_out = logits.new_full(logits.shape[1:], torch.nan)
    held_out[known] = answers
    return replace(joined, cross_validated=True, held_out=held_out)


def shares_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The weights ``[K]``, which add up to 1, of the mean of probabilities under which labels are most likely.

    Expectation and maximisation, whose only maximum is the global one (Dempster et al. 1977, "Maximum likelihood from
    incomplete data via the EM algorithm", 4.3: mixing proportions). One more image counts for each part, which only
    this one is right about: so few images do not rule a part out.

    Args:
        logits: float32 ``[K, N, C]``.
        targets: int64 ``[N]``, or ones and zeros float32 ``[N, C]``, each of which is a label.
    """
    likelihoods = _likelihoods(logits.double(), targets)
    count, seen = likelihoods.shape
    shares = likelihoods.new_full((count,), 1 / count)
    for _ in range(STEPS):
        blame = shares[:, None] * likelihoods
        blame = blame / blame.sum(0).clamp(min=torch.finfo(blame.dtype).tiny)
        before, shares = shares, (blame.sum(1) + 1) / (seen + count)
        if (shares - before).abs().max() < 1e-6:
            break
    return (shares / shares.sum()).float()


def _likelihoods(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """What each part gives each label: ``[K, labels]``."""
    if not is_multi_label(targets):
        return logits.softmax(2).gather(2, targets.expand(len(logits), -1)[:, :, None])[:, :, 0]
    return torch.where(targets > 0, logits.sigmoid(), (-logits).sigmoid()).flatten(1)


@torch.no_grad()
def _joined(
    fits: Sequence[Fit], logits: torch.Tensor, targets: torch.Tensor, parts: Sequence[Part]
) -> tuple[Fit, torch.Tensor]:
    """The heads as one, and its answers ``[N, C]`` to images that none has learned from.

    Args:
        logits: of these images, float32 ``[K, N, C]``.
    """
    several = is_multi_label(targets)
    heats = torch.tensor([temperature(each, targets) for each in logits])
    calibrated = logits / heats[:, None, None]
    shares = shares_of(calibrated, targets)
    answers = pooled(calibrated, shares, several)
    rows = [measured("validation", each, targets) for each in (*calibrated, answers)]
    curves = pd.DataFrame([{"step": step} | row for step, row in enumerate(rows, 1)])
    chosen = {f"weight_{place}": share for place, share in enumerate(shares.tolist(), 1)}
    chosen |= {f"l2_{place}": one.chosen["l2"] for place, one in enumerate(fits, 1)}
    score = rows[-1][merit_column(rows[-1])]
    return Fit(_head([one.head for one in fits], heats, shares, parts), score, chosen, curves), answers


def _head(heads: Sequence[Head], heats: torch.Tensor, shares: torch.Tensor, parts: Sequence[Part]) -> Head:
    """Linear heads of the parts, each with its temperature, as one that averages their probabilities."""
    width, first = sum(part.width for part in parts), heads[0]
    joined = Head(width, first.classes, kind="ensemble", multi_label=first.multi_label, parts=parts)
    joined.mean.copy_(torch.cat([head.mean for head in heads]))
    joined.std.copy_(torch.cat([head.std * scale for head, scale in zip(heads, scales(parts), strict=True)]))
    assert isinstance(joined.layers, Ensemble)
    joined.layers.shares.copy_(shares)
    for member, head, heat, scale in zip(joined.layers.members, heads, heats, scales(parts), strict=True):
        assert isinstance(member, nn.Linear) and isinstance(head.layers, nn.Linear)
        member.weight.copy_(head.layers.weight * scale / heat)
        member.bias.copy_(head.layers.bias / heat)
    return joined.eval()


def _places(parts: Sequence[Part]) -> list[slice]:
    return [slice(begin, end) for begin, end in pairwise(accumulate((part.width for part in parts), initial=0))]


def _columns(images: Labelled, place: slice) -> Labelled:
    return images[0][:, place].contiguous(), images[1]
