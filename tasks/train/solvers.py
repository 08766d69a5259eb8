"""Fitting heads to cached features; the whole training set is in memory, no pixel is touched."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import RepeatedStratifiedKFold
from torch import nn
from torch.nn.functional import cross_entropy

from tasks.progress import Advance, progress, tell
from tasks.train.heads import Head
from tasks.train.logistic import Solutions, measure, solve

L2_PATH = (1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)
"""Strengths of regularisation that are tried."""

HELD_OUT = 1_000
"""With fewer held-out predictions, one or two images would decide between strengths."""

Labelled = tuple[torch.Tensor, torch.Tensor]
"""Features float32 ``[N, width]`` and labels int64 ``[N]``."""


@dataclass
class Fit:
    """A fitted head, how it came about, and its accuracy on the validation set that it was chosen by."""

    head: Head
    score: float
    chosen: dict[str, float]
    curves: pd.DataFrame = field(repr=False)


def fit_linear(train: Labelled, validation: Labelled, classes: int) -> Fit:
    """Multinomial logistic regression for a path of L2 strengths; validation picks the strength.

    Minimises mean cross-entropy + l2/2·‖W‖² (the bias is free) on standardised features, which is
    scikit-learn's `LogisticRegression` with C = 1/(l2·N). The head is on the device of the features.
    """
    with progress("train", total=len(L2_PATH), unit="fit") as advance:
        head, solutions = _solve_path(train, classes, L2_PATH, advance)
    curves = _curves(head, solutions, train, validation)
    best = _best(curves)
    score, l2 = float(curves["validation/accuracy"][best]), float(curves["l2"][best])
    return Fit(_take(head, solutions, best), score, {"l2": l2}, curves)


def fit_linear_cross_validated(train: Labelled, classes: int, folds: int = 5, seed: int = 0) -> Fit:
    """As `fit_linear`, for training sets too small to give a part away: the strength is chosen by stratified
    cross-validation, repeated until at least `HELD_OUT` predictions decide, and fitted once more to all images.

    ``score`` is the accuracy over the folds; the curves are means over them.
    """
    features, labels = train
    # No more folds than the rarest class has images.
    folds = max(2, min(folds, int(labels.bincount(minlength=classes).min())))
    repeats = -(-HELD_OUT // len(labels))
    splitter = RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=seed)
    paths = []
    with progress("train", total=folds * repeats * len(L2_PATH), unit="fit") as advance:
        for kept, left in splitter.split(np.zeros(len(labels)), labels.cpu()):
            part, rest = (features[kept], labels[kept]), (features[left], labels[left])
            paths.append(_curves(*_solve_path(part, classes, L2_PATH, advance), part, rest))
    curves = pd.concat(paths).groupby("step", as_index=False).mean()
    best = _best(curves)
    l2 = float(curves["l2"][best])
    head, solutions = _solve_path(train, classes, [l2])
    return Fit(_take(head, solutions, 0), float(curves["validation/accuracy"][best]), {"l2": l2}, curves)


def _solve_path(
    train: Labelled, classes: int, strengths: Sequence[float], advance: Advance = lambda count: None
) -> tuple[Head, Solutions]:
    """A head that knows the training images' statistics, and the solutions for features standardised by it."""
    head = Head(train[0].shape[1], classes).to(train[0].device).standardise_like(train[0])
    solutions = solve(_standardised(head, train[0]), train[1], classes, strengths, advance=advance)
    for l2, gradient, converged in zip(strengths, solutions.gradients, solutions.converged, strict=True):
        if not converged:
            tell(f"linear head: the search at l2 {l2:g} ended early, at a gradient of {gradient:.1e}")
    return head, solutions


def _standardised(head: Head, features: torch.Tensor) -> torch.Tensor:
    return (features - head.mean).div_(head.std)


def _curves(head: Head, solutions: Solutions, train: Labelled, validation: Labelled) -> pd.DataFrame:
    """A row for each strength: loss and accuracy on the images that it was fitted to, and on those that choose."""
    curves = pd.DataFrame({"step": range(len(L2_PATH)), "l2": L2_PATH})
    for name, (features, labels) in (("train", train), ("validation", validation)):
        losses, accuracies = measure(solutions, _standardised(head, features), labels)
        curves[f"{name}/loss"], curves[f"{name}/accuracy"] = losses.tolist(), accuracies.tolist()
    return curves


def _take(head: Head, solutions: Solutions, index: int) -> Head:
    """The head with one of the solutions in it."""
    assert isinstance(head.layers, nn.Linear)
    head.layers.weight.data.copy_(solutions.weights[index])
    head.layers.bias.data.copy_(solutions.biases[index])
    return head.eval()


def _best(curves: pd.DataFrame) -> int:
    """The row of the highest accuracy; among equals, the smaller loss is the better calibrated model."""
    ranked = curves.sort_values(["validation/accuracy", "validation/loss"], ascending=[False, True], kind="stable")
    return int(ranked.index[0])


def fit_mlp(
    train: Labelled, validation: Labelled, classes: int, *, hidden: int, epochs: int, learning_rate: float,
    batch_size: int, seed: int,
) -> Fit:  # fmt: skip
    """One hidden ReLU layer trained with Adam (Kingma & Ba 2015); the best epoch on validation is kept."""
    torch.manual_seed(seed)
    head = Head(train[0].shape[1], classes, hidden).to(train[0].device).standardise_like(train[0])
    fitting, choosing = ((_standardised(head, features), labels) for features, labels in (train, validation))
    optimiser = torch.optim.Adam(head.parameters(), lr=learning_rate, fused=True)
    rows: list[dict[str, float]] = []
    best, kept = 0, head.state_dict()
    with progress("train", total=epochs, unit="epoch") as advance:
        for epoch in range(1, epochs + 1):
            learned = _one_epoch(head.layers, fitting, optimiser, batch_size)
            rows.append({"step": epoch} | learned | _measure(head.layers, choosing))
            if best != (best := _best(pd.DataFrame(rows)) + 1):
                kept = copy.deepcopy(head.state_dict())
            advance(1)
    head.load_state_dict(kept)
    curves = pd.DataFrame(rows)
    return Fit(head.eval(), float(curves["validation/accuracy"][best - 1]), {"epoch": best}, curves)


def _one_epoch(
    layers: nn.Module, train: Labelled, optimiser: torch.optim.Optimizer, batch_size: int
) -> dict[str, float]:
    """Learn from every image once; loss and accuracy are those of each batch just before its step."""
    order = torch.randperm(len(train[1]))
    loss_sum, right = (torch.zeros((), device=train[0].device, dtype=torch.float64) for _ in range(2))
    for features, labels in zip(*(part[order].split(batch_size) for part in train), strict=True):
        logits = layers(features)
        loss = cross_entropy(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss_sum += loss.detach() * len(labels)
        right += (logits.argmax(1) == labels).sum()
    return {"train/loss": loss_sum.item() / len(order), "train/accuracy": right.item() / len(order)}


@torch.inference_mode()
def _measure(layers: nn.Module, validation: Labelled) -> dict[str, float]:
    logits = layers(validation[0])
    return {
        "validation/loss": cross_entropy(logits, validation[1]).item(),
        "validation/accuracy": (logits.argmax(1) == validation[1]).double().mean().item(),
    }
