"""Fitting heads to cached features; the whole training set is in memory, no pixel is touched."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tasks.progress import progress
from tasks.train.heads import Head

L2_PATH = (1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)
"""Strengths of regularisation that are tried, strong to weak, each starting from the last one's solution."""

Labelled = tuple[torch.Tensor, torch.Tensor]
"""Features float32 ``[N, width]`` and labels int64 ``[N]``."""


@dataclass
class Fit:
    """A fitted head, how it came about, and its accuracy on the validation set that it was chosen by."""

    head: Head
    score: float
    chosen: dict[str, float]
    curves: pd.DataFrame = field(repr=False)


def fit_linear(train: Labelled, validation: Labelled, classes: int, refit: Labelled | None = None) -> Fit:
    """Multinomial logistic regression by L-BFGS for a path of L2 strengths; validation picks the strength.

    Minimises mean cross-entropy + l2/2·‖W‖² (the bias is free) on standardised features, which is
    scikit-learn's `LogisticRegression` with C = 1/(l2·N).

    Args:
        refit: if given, the chosen strength is fitted once more to these images too.
    """
    head = Head(train[0].shape[1], classes).standardise_like(train[0])
    rows, best, since_best = [], (-1.0, float("inf"), 0.0, head), 0
    with progress("train", total=len(L2_PATH), unit="fit") as advance:
        for step, l2 in enumerate(L2_PATH):
            solve(head, train, l2)
            row = {"step": step, "l2": l2} | _measure(head, train, "train") | _measure(head, validation, "validation")
            rows.append(row)
            # Between equal accuracies the smaller loss is the better calibrated model.
            key = (row["validation/accuracy"], -row["validation/loss"])
            if key > (best[0], -best[1]):
                best, since_best = (key[0], -key[1], l2, copy.deepcopy(head)), 0
            else:
                since_best += 1
            advance(1)
            if since_best == 3:  # along the path, accuracy rises and then falls
                break
    score, _, l2, chosen = best
    if refit is not None:
        chosen = Head(train[0].shape[1], classes).standardise_like(refit[0])
        solve(chosen, refit, l2)
    return Fit(chosen.eval(), score, {"l2": l2}, pd.DataFrame(rows))


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
    rows, best = [], (-1.0, float("inf"), 0, head)
    with progress("train", total=epochs, unit="epoch") as advance:
        for epoch in range(1, epochs + 1):
            _one_epoch(head, train, optimiser, batch_size)
            row = {"step": epoch} | _measure(head, train, "train") | _measure(head, validation, "validation")
            rows.append(row)
            if (row["validation/accuracy"], -row["validation/loss"]) > (best[0], -best[1]):
                best = (row["validation/accuracy"], row["validation/loss"], epoch, copy.deepcopy(head))
            advance(1)
    score, _, epoch, chosen = best
    return Fit(chosen.eval(), score, {"epoch": epoch}, pd.DataFrame(rows))


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
