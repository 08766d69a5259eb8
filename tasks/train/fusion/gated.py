"""Training a gated network on cached features of several parts."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from tasks.progress import progress
from tasks.train.calibration import temperature
from tasks.train.folds import parts_of as folds_of
from tasks.train.fusion.networks import Gated
from tasks.train.fusion.parts import Part
from tasks.train.heads import Head
from tasks.train.kinds import Balance
from tasks.train.solvers import Fit
from tasks.train.targets import (
    Labelled,
    best_row,
    class_weights,
    is_multi_label,
    loss_of,
    measured,
    merit_column,
    order_of,
)

LEAST_STEPS = 20
"""Steps of an epoch, where there are few images."""

FOLDS = 5


@dataclass(frozen=True)
class Schedule:
    """How a gated network is trained; see `tasks.train.methods.gated_fusion` for the keys."""

    epochs: int
    hidden: int
    learning_rate: float
    weight_decay: float
    batch_size: int
    dropout: float
    agreement: float
    label_smoothing: float
    balance: Balance


def fit_gated(
    train: Labelled, validation: Labelled, classes: int, parts: Sequence[Part], schedule: Schedule, seed: int
) -> Fit:
    """A gated network; the best epoch on validation is kept."""
    rows: list[dict[str, float]] = []
    best, kept = -1, Head(1, 1)
    with progress("train", schedule.epochs, "epoch") as advance:
        for head, loss in _epochs(train, classes, parts, schedule, seed):
            with torch.no_grad():
                seen = measured("validation", head(validation[0]), validation[1])
            rows.append({"step": len(rows) + 1, "train/loss": loss} | seen)
            if best != (best := best_row(pd.DataFrame(rows))):
                kept = copy.deepcopy(head)
            advance(1)
    chosen = {"epoch": best + 1} | gates_of(kept, validation[0])
    return Fit(kept, rows[best][merit_column(rows[best])], chosen, pd.DataFrame(rows))


def fit_gated_cross_validated(
    images: Labelled, classes: int, parts: Sequence[Part], schedule: Schedule, seed: int,
    groups: np.ndarray | None = None, calibrate: bool = True,
) -> Fit:  # fmt: skip
    """As `fit_gated`, for training sets too small to give a part away: the epoch, and the temperature, are chosen by
    what each image is given by networks of a cross-validation that had not learned from it; then all are learned from.

    Args:
        groups: of each image int64 ``[N]``, where images come in groups (see `tasks.groups`).
        calibrate: whether there is to be a temperature.
    """
    features, targets = images
    logits, losses = _cross_validated(images, classes, parts, schedule, seed, groups)
    known = ~logits[0].isnan().any(1)
    seen = [measured("validation", each[known], targets[known]) for each in logits]
    curves = pd.DataFrame(seen).assign(step=range(1, schedule.epochs + 1), **{"train/loss": losses})
    best = best_row(curves)
    head, _ = next(islice(_epochs(images, classes, parts, schedule, seed), best, None))
    if calibrate:
        head.temperature.fill_(temperature(logits[best][known], targets[known]))
    score = float(curves[merit_column(curves)][best])
    chosen = {"epoch": best + 1} | gates_of(head, features)
    return Fit(head, score, chosen, curves, cross_validated=True, held_out=logits[best] / head.temperature)


def _cross_validated(
    images: Labelled, classes: int, parts: Sequence[Part], schedule: Schedule, seed: int, groups: np.ndarray | None
) -> tuple[torch.Tensor, np.ndarray]:
    """What each image is given after each epoch by a network that has not learned from it, ``[epochs, N, C]``, NaN
    where there is none; and the mean loss of each epoch."""
    features, targets = images
    logits = features.new_full((schedule.epochs, len(targets), classes), torch.nan)
    losses = np.zeros(schedule.epochs)
    rounds = folds_of(targets, classes, FOLDS, 1, seed, groups)
    with progress("train", len(rounds) * schedule.epochs, "epoch") as advance:
        for learned, left in rounds:
            part = (features[learned], targets[learned])
            for epoch, (head, loss) in enumerate(_epochs(part, classes, parts, schedule, seed)):
                with torch.no_grad():
                    logits[epoch, left] = head(features[left])
                losses[epoch] += loss / len(rounds)
                advance(1)
    return logits, losses


@torch.no_grad()
def gates_of(head: Head, features: torch.Tensor) -> dict[str, float]:
    """How much each part counts, on average over images ``[N, width]``; 1 where all count alike."""
    assert isinstance(head.layers, Gated)
    means = head.layers.views(head.standardised(features)).gates.mean(0)
    return {f"gate_{place}": mean for place, mean in enumerate(means.tolist(), 1)}


def _epochs(
    images: Labelled, classes: int, parts: Sequence[Part], schedule: Schedule, seed: int
) -> Iterator[tuple[Head, float]]:
    """A network after each epoch, ready to answer, and the mean loss of the epoch."""
    torch.manual_seed(seed)
    features, targets = images
    head, layers = _begun(images, classes, parts, schedule)
    fitting = head.standardised(features)
    optimiser = torch.optim.AdamW(
        head.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True
    )
    cosine = CosineAnnealingLR(optimiser, schedule.epochs)
    weights = class_weights(targets, classes) if schedule.balance == "weights" else None
    criterion = loss_of(head.tells, schedule.label_smoothing, weights)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(schedule.epochs):
        losses = []
        head.train()
        for chosen in _batches(targets, classes, schedule, generator):
            views = layers.views(fitting[chosen])
            loss = criterion(layers.answer(views), targets[chosen]) + schedule.agreement * disagreement(views.shared)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        cosine.step()
        yield head.eval(), float(np.mean(losses))


def _begun(images: Labelled, classes: int, parts: Sequence[Part], schedule: Schedule) -> tuple[Head, Gated]:
    """An untrained head that knows the training images' statistics, and the network in it."""
    features, targets = images
    several = is_multi_label(targets)
    head = Head(features.shape[1], classes, schedule.hidden, kind="gated", multi_label=several, parts=parts)
    layers = head.standardise_like(features).layers
    assert isinstance(layers, Gated)
    layers.dropout.p = schedule.dropout
    return head, layers


def disagreement(shared: torch.Tensor) -> torch.Tensor:
    """How far the parts' shared views ``[N, K, hidden]`` of an image are from their mean: the mean square."""
    return (shared - shared.mean(1, keepdim=True)).square().mean()


def _batches(
    targets: torch.Tensor, classes: int, schedule: Schedule, generator: torch.Generator
) -> Iterator[torch.Tensor]:
    """Places of an epoch's images, a step at a time; of few images, each several times."""
    wanted = max(len(targets), LEAST_STEPS * min(schedule.batch_size, len(targets)))
    order = torch.empty(0, dtype=torch.int64)
    while len(order) < wanted:
        order = torch.cat([order, order_of(targets, classes, schedule.balance, generator)])
    yield from order[:wanted].split(schedule.batch_size)
