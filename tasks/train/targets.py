"""What heads are fitted to: one label an image, or several; their losses, their weights and their figures of merit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.metrics import average_precision_score
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from tasks.train.kinds import Balance

Labelled = tuple[torch.Tensor, torch.Tensor]
"""Features float32 ``[N, width]``, and labels int64 ``[N]`` or, where an image may have several, float32 ``[N, C]`` of
zeros and ones."""


def is_multi_label(targets: torch.Tensor) -> bool:
    """Whether targets stand for several labels an image."""
    return targets.is_floating_point()


def indicators(targets: torch.Tensor, classes: int) -> torch.Tensor:
    """Targets of either kind as zeros and ones: float32 ``[N, C]``."""
    return targets if is_multi_label(targets) else one_hot(targets, classes).float()


def loss_of(
    multi_label: bool, smoothing: float = 0.0, weights: torch.Tensor | None = None
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The mean loss of logits ``[N, C]`` for targets, as a function of both.

    With one label an image it is cross-entropy, and targets are int64 ``[N]`` or, where images were mixed, shares of
    the classes float32 ``[N, C]``; with several it is binary cross-entropy, averaged over the classes.

    Args:
        smoothing: share of a target that is spread over all classes (Szegedy et al. 2016, "Rethinking the Inception
            architecture", 7); with several labels it draws ones and zeros to ½.
        weights: float32 ``[C]``, how much an image of each class counts; for one label an image only.
    """
    if multi_label:
        return lambda logits, targets: binary_cross_entropy_with_logits(
            logits.float(), targets * (1 - smoothing) + smoothing / 2
        )
    return lambda logits, targets: cross_entropy(logits.float(), targets, weight=weights, label_smoothing=smoothing)


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


def merit_name(multi_label: bool) -> str:
    """Name of what `merit` measures."""
    return "average_precision" if multi_label else "accuracy"


def merit(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Accuracy or, with several labels an image, the average precision, averaged over the classes that occur."""
    if not is_multi_label(targets):
        return (logits.argmax(1) == targets).double().mean().item()
    there = targets.any(0).cpu()
    if not there.any():
        return 0.0
    # Logits of a training that diverged are no numbers, and no order.
    scores = logits.float().cpu()[:, there].nan_to_num()
    return float(average_precision_score(targets.cpu()[:, there], scores, average="macro"))


@torch.inference_mode()
def measured(name: str, logits: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """Loss and merit of logits ``[N, C]`` as entries of a row of curves."""
    several = is_multi_label(targets)
    loss = loss_of(several)(logits, targets)
    return {f"{name}/loss": loss.item(), f"{name}/{merit_name(several)}": merit(logits, targets)}
