"""Fitting heads to cached features; the whole training set is in memory, no pixel is touched."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from tasks.extract.weights import Weights
from tasks.progress import progress, tell
from tasks.train.folds import parts_of
from tasks.train.fusion.parts import Part
from tasks.train.heads import Head
from tasks.train.kinds import Balance
from tasks.train.logistic import FINE, ROUGH, Regression, Solutions, measure
from tasks.train.targets import (
    Labelled,
    best_row,
    class_weights,
    is_multi_label,
    kind_of,
    loss_of,
    measured,
    merit_column,
    order_of,
)

L2_PATH = (1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)
"""Strengths of regularisation that are tried, the strongest first."""

HELD_OUT = 1_000
"""With fewer held-out predictions, one or two images would decide between strengths."""


@dataclass
class Fit:
    """A fitted head, how it came about, and its merit on the validation set that it was chosen by.

    Attributes:
        score: accuracy, average precision with several labels an image, R² of a number (see
            `tasks.train.targets.merit`).
        attacked: the same under the attack that it was trained under, if any.
        backbone: weights of the backbone where these were trained, too.
        rates: learning rates of its blocks by epoch (epoch, block, rate), where they were chosen in training.
        trials: what a search tried, a row for each.
        mixed: what weights were averaged, or tried to be (see `tasks.train.tuning.mixing`).
        scores: by seed, where there were several.
        further: heads of further tasks that were learned at once with it, by their names.
        method: that a search chose; settings: its keys.
        cross_validated: whether the validation images were learned from, too, and say nothing of the head.
        held_out: where they were, logits float32 ``[N, C]`` of all images that were learned from, each by a head that
            had not learned from it; NaN where every head had. Of a number, `Head` says what they are.
        validated: of a head that is served on another domain than validation images are of, its logits float32
            ``[V, C]`` on these as images of their own domain.
    """

    head: Head
    score: float
    chosen: dict[str, float]
    curves: pd.DataFrame = field(repr=False)
    backbone: Weights | None = field(default=None, repr=False)
    rates: pd.DataFrame | None = field(default=None, repr=False)
    trials: pd.DataFrame | None = field(default=None, repr=False)
    mixed: pd.DataFrame | None = field(default=None, repr=False)
    scores: dict[int, float] = field(default_factory=dict)
    further: dict[str, Head] = field(default_factory=dict, repr=False)
    method: str | None = None
    settings: dict[str, Any] = field(default_factory=dict, repr=False)
    cross_validated: bool = False
    held_out: torch.Tensor | None = field(default=None, repr=False)
    attacked: float | None = None
    validated: torch.Tensor | None = field(default=None, repr=False)

    @property
    def adapted(self) -> bool:
        """Whether it is served on another domain than validation images are of."""
        return self.chosen.get("adapted", 0.0) > 0

    @property
    def compared(self) -> float:
        """What seeds and trials are compared by: the score, under attack where one was trained under."""
        return self.score if self.attacked is None else self.attacked


def fit_linear(
    train: Labelled, validation: Labelled, classes: int, balance: Balance = "none", parts: Sequence[Part] = ()
) -> Fit:
    """Logistic regression for a path of L2 strengths; validation picks the strength.

    Minimises mean cross-entropy + l2/2·‖W‖² (the bias is free) on standardised features, which is
    scikit-learn's `LogisticRegression` with C = 1/(l2·N). All strengths are solved as exactly as it takes to choose,
    the chosen one to convergence. The head is on the device of the features.
    """
    head = _empty(train, classes, parts)
    fitting, choosing = standardised(head, train), standardised(head, validation)
    return solve_path(head, _regression(fitting, classes, balance), fitting, choosing)


def solve_path(head: Head, regression: Regression, fitting: Labelled, choosing: Labelled) -> Fit:
    """The head with the solution in it that is best on the images that choices are made on.

    Args:
        head: linear, of zeros; the features of both sets are standardised by it.
        fitting: what curves call ``train``.
    """
    with progress("train", total=len(L2_PATH), unit="fit") as advance:
        rough = regression.solve(L2_PATH, advance, ROUGH)
    curves = _curves(rough, L2_PATH, fitting, choosing).rename_axis("step").reset_index()
    best = best_row(curves)
    l2 = L2_PATH[best]
    start = torch.cat([rough.weights[best], rough.biases[best, :, None]], 1)
    exact = regression.solve([l2], stop=FINE, start=start)
    _tell_of_early_ends(exact, [l2])
    curves.loc[best, curves.columns[1:]] = _curves(exact, [l2], fitting, choosing).iloc[0]
    score = float(curves[merit_column(curves)][best])
    return Fit(_take(head, exact, 0), score, {"l2": l2}, curves)


def fit_linear_cross_validated(
    train: Labelled, classes: int, balance: Balance = "none", folds: int = 5, seed: int = 0,
    groups: np.ndarray | None = None, parts: Sequence[Part] = (),
) -> Fit:  # fmt: skip
    """As `fit_linear`, for training sets too small to give a part away: the strength is chosen by cross-validation,
    repeated until at least `HELD_OUT` predictions decide, and fitted once more to all images.

    ``score`` is the merit over the folds; the curves are means over them. ``held_out`` is of the chosen strength.

    Args:
        groups: of each image int64 ``[N]``, where images come in groups (see `tasks.groups`).

    Raises:
        ConfigurationError: nothing can be left out; see `tasks.train.folds.parts_of`.
    """
    features, targets = train
    rounds = parts_of(targets.cpu(), classes, folds, -(-HELD_OUT // len(targets)), seed, groups)
    paths = []
    held_out = features.new_full((len(L2_PATH), len(targets), classes), torch.nan)
    with progress("train", total=len(rounds) * len(L2_PATH), unit="fit") as advance:
        for kept, left in rounds:
            part = (features[kept], targets[kept])
            head = _empty(part, classes, parts)
            fitting, rest = standardised(head, part), standardised(head, (features[left], targets[left]))
            solutions = _regression(fitting, classes, balance).solve(L2_PATH, advance, ROUGH)
            paths.append(_curves(solutions, L2_PATH, fitting, rest))
            # Of each image once: a mean over the repeats would be of several heads, which knows more than one does.
            logits, earlier = rest[0] @ solutions.weights.mT + solutions.biases[:, None], held_out[:, left]
            held_out[:, left] = torch.where(earlier.isnan(), logits, earlier)
    curves = pd.concat(paths).rename_axis("step").groupby("step").mean().reset_index()
    best = best_row(curves)
    l2 = float(curves["l2"][best])
    head = _empty(train, classes, parts)
    solutions = _regression(standardised(head, train), classes, balance).solve([l2], stop=FINE)
    _tell_of_early_ends(solutions, [l2])
    score = float(curves[merit_column(curves)][best])
    head = _take(head, solutions, 0)
    return Fit(head, score, {"l2": l2}, curves, cross_validated=True, held_out=held_out[best].cpu())


def fit_mlp(
    train: Labelled, validation: Labelled, classes: int, *, hidden: int, epochs: int, learning_rate: float,
    batch_size: int, seed: int, weight_decay: float = 0.0, label_smoothing: float = 0.0, balance: Balance = "none",
    parts: Sequence[Part] = (),
) -> Fit:  # fmt: skip
    """One hidden ReLU layer trained with AdamW (Loshchilov & Hutter 2019), the rate falling to zero along a cosine
    (Loshchilov & Hutter 2017); the best epoch on validation is kept."""
    torch.manual_seed(seed)
    head = Head.suited_to(train[1], train[0].shape[1], classes, hidden, parts=parts).standardise_like(train[0])
    choosing = standardised(head, validation)
    optimiser = torch.optim.AdamW(head.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)
    schedule = CosineAnnealingLR(optimiser, epochs)
    weights = class_weights(train[1], classes) if balance == "weights" else None
    criterion = loss_of(kind_of(train[1]), label_smoothing, weights)
    generator = torch.Generator().manual_seed(seed)
    rows: list[dict[str, float]] = []
    best, kept = -1, head.state_dict()
    with progress("train", total=epochs, unit="epoch") as advance:
        for epoch in range(1, epochs + 1):
            order = order_of(train[1], classes, balance, generator)
            row = {
                "step": epoch,
                "train/loss": _one_epoch(head, train, order, optimiser, criterion, batch_size),
            }
            with torch.inference_mode():
                row |= measured("validation", head.answers(head.layers(choosing[0])), choosing[1])
            schedule.step()
            rows.append(row)
            if best != (best := best_row(pd.DataFrame(rows))):
                kept = copy.deepcopy(head.state_dict())
            advance(1)
    head.load_state_dict(kept)
    score = rows[best][merit_column(rows[best])]
    return Fit(head.eval(), score, {"epoch": best + 1}, pd.DataFrame(rows))


def _one_epoch(
    head: Head, train: Labelled, order: torch.Tensor, optimiser: torch.optim.Optimizer,
    criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], batch_size: int,
) -> float:  # fmt: skip
    """Learn from the images in the order given; returns the mean loss of each batch just before its step.

    Batches are standardised one by one, for features may fill much of the memory: there is no second copy of all.
    """
    features, known = train
    total = torch.zeros((), device=features.device, dtype=torch.float64)
    for rows in order.split(batch_size):
        targets = known[rows]
        loss = criterion(head(features[rows]), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total += loss.detach() * len(targets)
    return total.item() / len(order)


def _empty(train: Labelled, classes: int, parts: Sequence[Part]) -> Head:
    """A linear head of zeros that knows the training images' statistics."""
    features, targets = train
    head = Head(features.shape[1], classes, multi_label=is_multi_label(targets), parts=parts)
    return head.to(features.device).standardise_like(features)


def standardised(head: Head, images: Labelled) -> Labelled:
    """Images as a head's layers take them."""
    return head.standardised(images[0]), images[1]


def _regression(train: Labelled, classes: int, balance: Balance) -> Regression:
    features, targets = train
    weights = class_weights(targets, classes)[targets] if balance != "none" else None
    return Regression(features, targets, classes, weights)


def _tell_of_early_ends(solutions: Solutions, strengths: Sequence[float]) -> None:
    for l2, gradient, converged in zip(strengths, solutions.gradients, solutions.converged, strict=True):
        if not converged:
            tell(f"linear head: the search at l2 {l2:g} ended early, at a gradient of {gradient:.1e}")


def _curves(solutions: Solutions, strengths: Sequence[float], train: Labelled, validation: Labelled) -> pd.DataFrame:
    """A row for each strength: loss and merit on the images that it was fitted to, and on those that choose."""
    curves = pd.DataFrame({"l2": strengths})
    for name, (features, targets) in (("train", train), ("validation", validation)):
        if is_multi_label(targets):
            pairs = zip(solutions.weights, solutions.biases, strict=True)
            rows = [measured(name, features @ weights.T + biases, targets) for weights, biases in pairs]
            curves = curves.join(pd.DataFrame(rows))
        else:
            losses, accuracies = measure(solutions, features, targets)
            curves[f"{name}/loss"], curves[f"{name}/accuracy"] = losses.tolist(), accuracies.tolist()
    return curves


def _take(head: Head, solutions: Solutions, index: int) -> Head:
    """The head with one of the solutions in it."""
    assert isinstance(head.layers, nn.Linear)
    head.layers.weight.data.copy_(solutions.weights[index])
    head.layers.bias.data.copy_(solutions.biases[index])
    return head.eval()
