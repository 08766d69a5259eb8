"""Ridge regression onto a number, and how far from it the numbers of other images lie."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import numpy as np
import pandas as pd
import torch
from torch import nn

from tasks.progress import progress
from tasks.train.folds import parts_of
from tasks.train.fusion.parts import Part
from tasks.train.heads import NARROW, NUMBER, Head
from tasks.train.ridge import ridge_path
from tasks.train.solvers import HELD_OUT, L2_PATH, Fit
from tasks.train.targets import Labelled, best_row, measured

STRENGTHS = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, *L2_PATH)
"""Strengths of regularisation that are tried, the strongest first. Unlike classes, numbers may hardly depend on what
the features have most of."""

Lines = list[tuple[torch.Tensor, torch.Tensor]]
"""Weights ``[1, d]`` and biases ``[1]`` of each strength, in units of a head's ``layers``."""


def fit_number(train: Labelled, validation: Labelled, parts: Sequence[Part] = ()) -> Fit:
    """The line that minimises  mean (w·x + b - y)² + l2·‖w‖²  over standardised features x and numbers y; the strength
    is the best on validation, and so is the spread, which is the same for all images.

    It is scikit-learn's `Ridge` with alpha = l2·N, of numbers in units of their deviation.
    """
    head = _empty(train, parts)
    fitting, choosing = ((head.standardised(features), numbers) for features, numbers in (train, validation))
    with progress("train", total=len(STRENGTHS), unit="fit") as advance:
        lines = _lines(head, *fitting)
        advance(len(STRENGTHS))
    rows = []
    for step, (l2, line) in enumerate(zip(STRENGTHS, lines, strict=True)):
        _take(head, line, _residuals(head, line, *choosing))
        row = {"step": step, "l2": l2}
        for name, (inputs, numbers) in (("train", fitting), ("validation", choosing)):
            row |= measured(name, head.answers(head.layers(inputs)), numbers)
        rows.append(row)
    curves = pd.DataFrame(rows)
    best = best_row(curves)
    _take(head, lines[best], _residuals(head, lines[best], *choosing))
    return Fit(head.eval(), float(curves["validation/r2"][best]), {"l2": STRENGTHS[best]}, curves)


def fit_number_cross_validated(
    train: Labelled, folds: int = 5, seed: int = 0, groups: np.ndarray | None = None, parts: Sequence[Part] = ()
) -> Fit:
    """As `fit_number`, for training sets too small to give a part away: strength and spread are chosen by what images
    are told by lines of a cross-validation that had not learned from them; then all are learned from.

    ``score`` and curves are of all these answers together, ``held_out`` of the first that each image was given.

    Args:
        groups: of each image int64 ``[N]``, where images come in groups (see `tasks.groups`).

    Raises:
        ConfigurationError: nothing can be left out; see `tasks.train.folds.parts_of`.
    """
    features, numbers = train
    rounds = parts_of(numbers.cpu(), 0, folds, -(-HELD_OUT // len(numbers)), seed, groups)
    told, wanted, first = [], [], features.new_full((len(STRENGTHS), len(numbers)), torch.nan)
    with progress("train", total=len(rounds), unit="fit") as advance:
        for kept, left in rounds:
            part = (features[kept], numbers[kept])
            head = _empty(part, parts)
            rest = head.standardised(features[left])
            lines = _lines(head, head.standardised(part[0]), part[1])
            answers = torch.stack([head.centre + head.scale * (rest @ w.T + b)[:, 0] for w, b in lines])
            told.append(answers)
            wanted.append(numbers[left])
            first[:, left] = torch.where(first[:, left].isnan(), answers, first[:, left])
            advance(1)
    answers, apart = torch.cat(told, 1), torch.cat(wanted)
    head = _empty(train, parts)
    curves = pd.DataFrame([_row(head, *each, apart) for each in zip(count(), STRENGTHS, answers, strict=False)])
    best = best_row(curves)
    residuals = (answers[best] - apart) / head.scale
    _take(head, _lines(head, head.standardised(features), numbers, (STRENGTHS[best],))[0], residuals)
    given = torch.stack([first[best], _log_variance(residuals) + 2 * head.scale.log().expand_as(first[best])], 1)
    given[first[best].isnan()] = torch.nan
    score = float(curves["validation/r2"][best])
    return Fit(head.eval(), score, {"l2": STRENGTHS[best]}, curves, cross_validated=True, held_out=given.cpu())


def _row(head: Head, step: int, l2: float, answers: torch.Tensor, numbers: torch.Tensor) -> dict[str, float]:
    variance = _log_variance((answers - numbers) / head.scale) + 2 * head.scale.log()
    outputs = torch.stack([answers, variance.expand_as(answers)], 1)
    return {"step": step, "l2": l2} | measured("validation", outputs, numbers)


def _empty(train: Labelled, parts: Sequence[Part]) -> Head:
    features, numbers = train
    head = Head.suited_to(numbers, features.shape[1], NUMBER, parts=parts).standardise_like(features)
    for parameter in head.parameters():
        parameter.data.zero_()
    return head


def _lines(
    head: Head, features: torch.Tensor, numbers: torch.Tensor, strengths: tuple[float, ...] = STRENGTHS
) -> Lines:
    return ridge_path(features, head.standardised_numbers(numbers)[:, None], strengths)


def _residuals(
    head: Head, line: tuple[torch.Tensor, torch.Tensor], inputs: torch.Tensor, numbers: torch.Tensor
) -> torch.Tensor:
    weight, bias = line
    return (inputs @ weight.T + bias)[:, 0] - head.standardised_numbers(numbers)


def _log_variance(residuals: torch.Tensor) -> torch.Tensor:
    """Of residuals ``[N]`` in units of the target's deviation; one image more counts, as far off as the mean is, so
    that a few that fit by chance promise nothing."""
    variance = (residuals.double().square().sum() + 1) / (len(residuals) + 1)
    return variance.log().clamp(-NARROW, NARROW).float()


def _take(head: Head, line: tuple[torch.Tensor, torch.Tensor], residuals: torch.Tensor) -> None:
    """Put a line, and the spread of residuals about it, into a linear head."""
    assert isinstance(head.layers, nn.Linear)
    weight, bias = line
    head.layers.weight.data[0], head.layers.bias.data[0] = weight[0], bias[0]
    head.layers.bias.data[1] = _log_variance(residuals)
