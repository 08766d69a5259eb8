"""What a batch costs to a network that somebody attacks."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import kl_div, logsigmoid

from tasks.train.pgd import Objective, attacked
from tasks.train.targets import kind_of, loss_of
from tasks.train.tuning.config import AttackConfig
from tasks.train.tuning.network import SCALE, Tuning


def loss_under_attack(
    tuning: Tuning, images: torch.Tensor, targets: torch.Tensor, attack: AttackConfig
) -> torch.Tensor:
    """Adversarial training, of targets y and answers f(x) of images x (Madry et al. 2018, eq. 2.1),

        min over the network of the mean of  max over ‖x′ - x‖∞ ≤ radius of  L(f(x′), y)

    or, with ``trades``, for 1/λ (Zhang et al. 2019, "Theoretically principled trade-off between robustness and
    accuracy", eq. 5; with several labels an image, the mean of the classes' own divergences),

        min over the network of the mean of  L(f(x), y) + 1/λ · max over ‖x′ - x‖∞ ≤ radius of  KL(f(x) ‖ f(x′))

    where, other than there, f(x) is held still in the divergence: answers under attack are drawn to those without, and
    not these to them. A fine-tuning has few steps, and where both move it may end with one answer for all images.

    The maximum is sought by `tasks.train.pgd.attacked`, of the first images of the batch, whose order is random.

    Args:
        images: from 0 to 255, ``[N, 3, S, S]``.
        targets: whatever the criterion takes: labels, shares of mixed ones, numbers of a lesson's images.
    """
    images, count = images.float(), math.ceil(attack.share * len(images))
    if attack.trades is None:
        moved = _moved(tuning, images[:count], targets[:count], attack)
        return tuning.loss(torch.cat([moved, images[count:]]), targets)
    moved = _drawn_away(tuning, images[:count], attack)
    features = tuning.backbone(images)
    logits = tuning.answers(features)
    loss = tuning.criterion(logits, targets, features, tuning.over)
    return loss + attack.trades * _apart(tuning, tuning(moved), logits[:count].detach()).sum() / len(images)


def logits_under_attack(
    answer: Objective, images: torch.Tensor, targets: torch.Tensor, attack: AttackConfig
) -> torch.Tensor:
    """What a classifier says of images ``[N, 3, S, S]``, from 0 to 255, that were moved away from their targets.

    Args:
        answer: from such images to logits.
        targets: labels ``[N]``, or zeros and ones ``[N, C]``.
    """
    loss = loss_of(kind_of(targets))
    return answer(
        attacked(
            images.float(), lambda moved: SCALE * len(images) * loss(answer(moved), targets), attack.radius,
            attack.steps, attack.step,
        )
    )  # fmt: skip


def _moved(tuning: Tuning, images: torch.Tensor, targets: torch.Tensor, attack: AttackConfig) -> torch.Tensor:
    """Images that cost as much as can be found."""
    with tuning.standing_still():
        return attacked(
            images, lambda moved: SCALE * len(images) * tuning.loss(moved, targets), attack.radius, attack.steps,
            attack.step,
        )  # fmt: skip


def _drawn_away(tuning: Tuning, images: torch.Tensor, attack: AttackConfig) -> torch.Tensor:
    """Images whose answers are as far as can be found from those without an attack."""
    with tuning.standing_still():
        with torch.no_grad():
            calm = tuning(images)
        return attacked(
            images, lambda moved: SCALE * _apart(tuning, tuning(moved), calm), attack.radius, attack.steps, attack.step
        )


def _apart(tuning: Tuning, logits: torch.Tensor, calm: torch.Tensor) -> torch.Tensor:
    """KL(calm ‖ logits) of each image, ``[N]``."""
    with torch.autocast(logits.device.type, enabled=False):
        logits, calm = logits.float(), calm.float()
        # Of logarithms on both sides: where an answer is sure, the probability's own derivative is none.
        if not tuning.head.multi_label:
            return _divergence(logits.log_softmax(1), calm.log_softmax(1)).sum(1)
        there = _divergence(logsigmoid(logits), logsigmoid(calm))
        return (there + _divergence(logsigmoid(-logits), logsigmoid(-calm))).mean(1)


def _divergence(logits: torch.Tensor, calm: torch.Tensor) -> torch.Tensor:
    return kl_div(logits, calm, reduction="none", log_target=True)
