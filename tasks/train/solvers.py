"""Fitting heads to cached features; the whole training set is in memory, no pixel is touched."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import pandas as pd
import torch
from sklearn.model_selection import RepeatedStratifiedKFold
from torch import nn
from torch.nn.functional import cross_entropy

from tasks.progress import Advance, progress
from tasks.train.heads import Head

L2_PATH = (1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)
"""Strengths of regularisation that are tried, strong to weak, each starting from the last one's solution."""

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
    """Multinomial logistic regression by L-BFGS for a path of L2 strengths; validation picks the strength.

    Minimises mean cross-entropy + l2/2·‖W‖² (the bias is free) on standardised features, which is
    scikit-learn's `LogisticRegression` with C = 1/(l2·N).
    """
    with progress("train", total=len(L2_PATH), unit="fit") as advance:
        rows, heads = _follow_path(train, validation, classes, advance)
    best = _best(pd.DataFrame(rows))
    return Fit(heads[best].eval(), rows[best]["validation/accuracy"], {"l2": rows[best]["l2"]}, pd.DataFrame(rows))


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
        for kept, left in splitter.split(features, labels):
            rows, _ = _follow_path((features[kept], labels[kept]), (features[left], labels[left]), classes, advance)
            paths.append(pd.DataFrame(rows))
    curves = pd.concat(paths).groupby("step", as_index=False).mean()
    best = _best(curves)
    l2 = float(curves["l2"][best])
    head = _start(train, classes)
    solve(head, train, l2)
    return Fit(head.eval(), float(curves["validation/accuracy"][best]), {"l2": l2}, curves)


def _follow_path(
    train: Labelled, validation: Labelled, classes: int, advance: Advance
) -> tuple[list[dict[str, float]], list[Head]]:
    head = _start(train, classes)
    rows, heads = [], []
    for step, l2 in enumerate(L2_PATH):
        solve(head, train, l2)
        rows.append(
            {"step": step, "l2": l2} | _measure(head, train, "train") | _measure(head, validation, "validation")
        )
        heads.append(copy.deepcopy(head))
        advance(1)
    return rows, heads


def _start(train: Labelled, classes: int) -> Head:
    """A linear head at zero: the minimum does not depend on the start, but its last bits do."""
    head = Head(train[0].shape[1], classes).standardise_like(train[0])
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    return head


def _best(curves: pd.DataFrame) -> int:
    """The row of the highest accuracy; among equals, the smaller loss is the better calibrated model."""
    ranked = curves.sort_values(["validation/accuracy", "validation/loss"], ascending=[False, True], kind="stable")
    return int(ranked.index[0])


def solve(head: Head, train: Labelled, l2: float, iterations: int = 300) -> None:
    """Bring a linear head to the minimum, starting from where it is."""
    features, labels = (train[0] - head.mean) / head.std, train[1]
    linear = head.layers
    assert isinstance(linear, nn.Linear)
    optimiser = torch.optim.LBFGS(
        linear.parameters(), max_iter=iterations, tolerance_grad=1e-5, tolerance_change=1e-8,
        history_size=10, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def objective() -> torch.Tensor:
        optimiser.zero_grad()
        loss = cross_entropy(linear(features), labels) + l2 / 2 * linear.weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(objective)  # type: ignore[arg-type]


def fit_mlp(
    train: Labelled, validation: Labelled, classes: int, *, hidden: int, epochs: int, learning_rate: float,
    batch_size: int, seed: int,
) -> Fit:  # fmt: skip
    """One hidden ReLU layer trained with Adam (Kingma & Ba 2015); the best epoch on validation is kept."""
    torch.manual_seed(seed)
    head = Head(train[0].shape[1], classes, hidden).standardise_like(train[0])
    optimiser = torch.optim.Adam(head.parameters(), lr=learning_rate)
    rows, heads = [], []
    with progress("train", total=epochs, unit="epoch") as advance:
        for epoch in range(1, epochs + 1):
            _one_epoch(head, train, optimiser, batch_size)
            rows.append({"step": epoch} | _measure(head, train, "train") | _measure(head, validation, "validation"))
            heads.append(copy.deepcopy(head))
            advance(1)
    curves = pd.DataFrame(rows)
    best = _best(curves)
    return Fit(heads[best].eval(), float(curves["validation/accuracy"][best]), {"epoch": best + 1}, curves)


def _one_epoch(head: Head, train: Labelled, optimiser: torch.optim.Optimizer, batch_size: int) -> None:
    for chosen in torch.randperm(len(train[1])).split(batch_size):
        loss = cross_entropy(head(train[0][chosen]), train[1][chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@torch.inference_mode()
def _measure(head: Head, images: Labelled, name: str) -> dict[str, float]:
    logits = head(images[0])
    return {
        f"{name}/loss": cross_entropy(logits, images[1]).item(),
        f"{name}/accuracy": (logits.argmax(1) == images[1]).double().mean().item(),
    }
