"""What heads are fitted to: one label an image, several, or a number; their losses, their weights and their figures of
merit."""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, get_args

import torch
from sklearn.metrics import average_precision_score
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from tasks.train.kinds import Answer, Balance

if TYPE_CHECKING:
    import pandas as pd

Labelled = tuple[torch.Tensor, torch.Tensor]
"""Features float32 ``[N, width]``, and labels int64 ``[N]``, where an image may have several, float32 ``[N, C]`` of
zeros and ones, or numbers float32 ``[N]``."""

Criterion = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""The mean loss of a head's outputs ``[N, C]`` for targets."""

TRUST = 0.5
"""How much less an image counts that much is left open for, from 0, as the likelihood has it, to 1, all alike (Seitzer
et al. 2022, β there and their choice)."""


def kind_of(targets: torch.Tensor) -> Answer:
    """What targets stand for, by their type and dimensions."""
    if not targets.is_floating_point():
        return "class"
    return "number" if targets.ndim == 1 else "labels"


def is_multi_label(targets: torch.Tensor) -> bool:
    """Whether targets stand for several labels an image."""
    return kind_of(targets) == "labels"


def is_number(targets: torch.Tensor) -> bool:
    """Whether targets are numbers."""
    return kind_of(targets) == "number"


def indicators(targets: torch.Tensor, classes: int) -> torch.Tensor:
    """Labels of either kind as zeros and ones: float32 ``[N, C]``."""
    return targets if is_multi_label(targets) else one_hot(targets, classes).float()


def loss_of(kind: Answer, smoothing: float = 0.0, weights: torch.Tensor | None = None) -> Criterion:
    """The mean loss of a head's outputs ``[N, C]`` for targets, as a function of both.

    Of a class it is cross-entropy, and targets are int64 ``[N]`` or, where images were mixed, shares of the classes
    float32 ``[N, C]``; of several labels it is binary cross-entropy, averaged over the classes; of a number, `weighed`.

    Args:
        smoothing: share of a target that is spread over all classes (Szegedy et al. 2016, "Rethinking the Inception
            architecture", 7); with several labels it draws ones and zeros to ½.
        weights: float32 ``[C]``, how much an image of each class counts; for one label an image only.
    """
    if kind == "number":
        return weighed
    if kind == "labels":
        return lambda logits, targets: binary_cross_entropy_with_logits(
            logits.float(), targets * (1 - smoothing) + smoothing / 2
        )
    return lambda logits, targets: cross_entropy(logits.float(), targets, weight=weights, label_smoothing=smoothing)


def surprise(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of numbers ``[N]``, in nats and each by itself, under Gaussians of which ``outputs``
    ``[N, 2]`` are the means and the logarithms of the variances: ½ (y - m)² / v + ½ log 2πv."""
    means, variances = outputs.float().unbind(1)
    return 0.5 * ((targets - means).square() * (-variances).exp() + variances + math.log(2 * math.pi))


def weighed(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """What numbers are learned by: the mean of `surprise`, each image weighed by vᵝ / mean(vᵝ), held still.

    By the likelihood alone, what is fitted badly at first counts as noise ever after (Seitzer et al. 2022, "On the
    pitfalls of heteroscedastic uncertainty estimation with probabilistic neural networks", eq. 5).
    """
    spread = (TRUST * outputs[:, 1].detach().float()).exp()
    return (surprise(outputs, targets) * spread / spread.mean()).mean()


def class_weights(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """How much an image of each class counts so that all classes count alike: float32 ``[C]``, 1 on average over the
    images. A class without images gets 0."""
    counts = labels.bincount(minlength=classes).float()
    there = counts > 0
    return torch.where(there, len(labels) / (there.sum() * counts.clamp(min=1)), 0.0)


def balanced_order(labels: torch.Tensor, classes: int, generator: torch.Generator) -> torch.Tensor:
    """As many indices as there are labels, int64 ``[N]``, drawn so that every class is as likely."""
    weights = class_weights(labels, classes)[labels]
    return torch.multinomial(weights.double(), len(labels), replacement=True, generator=generator)


def order_of(labels: torch.Tensor, classes: int, balance: Balance, generator: torch.Generator) -> torch.Tensor:
    """The images of an epoch in random order, int64 ``[N]``: each once or, for ``sampling``, as `balanced_order` has
    them."""
    if balance == "sampling":
        return balanced_order(labels, classes, generator)
    return torch.randperm(len(labels), generator=generator)


def merit_name(kind: Answer) -> str:
    """Name of what `merit` measures."""
    names: dict[Answer, str] = {"class": "accuracy", "labels": "average_precision", "number": "r2"}
    return names[kind]


def merit_column(columns: Container[str]) -> str:
    """Which column of a training's curves is the merit on validation."""
    return next(name for kind in get_args(Answer) if (name := f"validation/{merit_name(kind)}") in columns)


def best_row(curves: pd.DataFrame) -> int:
    """The row of the highest merit; among equals, the smaller loss is the better calibrated model."""
    ranked = curves.sort_values([merit_column(curves), "validation/loss"], ascending=[False, True], kind="stable")
    return int(ranked.index[0])


def merit(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Accuracy; with several labels an image, the average precision, averaged over the classes that occur; of numbers
    R², the share of their variance that is explained, of outputs ``[N, 2]`` as `surprise` takes them."""
    if is_number(targets):
        return explained(logits[:, 0], targets)
    if not is_multi_label(targets):
        # Logits of a training that diverged are no numbers, and of these the first is the largest.
        return ((logits.argmax(1) == targets) & ~logits.isnan().any(1)).double().mean().item()
    there = targets.any(0).cpu()
    if not there.any():
        return 0.0
    # Nor have they an order.
    scores = logits.float().cpu()[:, there].nan_to_num()
    return float(average_precision_score(targets.cpu()[:, there], scores, average="macro"))


def explained(answers: torch.Tensor, targets: torch.Tensor) -> float:
    """R² of numbers ``[N]``: 1 - Σ(y - f)² / Σ(y - mean y)²; 0 where all are the same."""
    answers, targets = answers.detach().double().nan_to_num(), targets.double()
    around = (targets - targets.mean()).square().sum()
    if not around > 0:
        return 0.0
    return float(1 - (targets - answers).square().sum() / around)


@torch.inference_mode()
def measured(name: str, logits: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """Loss and merit of a head's outputs ``[N, C]`` as entries of a row of curves; of a number, the loss is the mean of
    `surprise`."""
    kind = kind_of(targets)
    loss = surprise(logits, targets).mean() if kind == "number" else loss_of(kind)(logits, targets)
    return {f"{name}/loss": loss.item(), f"{name}/{merit_name(kind)}": merit(logits, targets)}
