"""How far a student is from its teachers: by its answers, and by how images lie to each other in its features."""

from __future__ import annotations

import torch
from torch.nn.functional import kl_div, logsigmoid, smooth_l1_loss

DISTANCES, ANGLES = 25.0, 50.0
"""How much distances and angles count (Park et al. 2019, 4.2)."""

LEAST = 1e-6
"""Squared distance, in units of the mean squared distance from the middle, below which two images lie on each other."""


def divergence(logits: torch.Tensor, answers: torch.Tensor, temperature: float, multi_label: bool) -> torch.Tensor:
    """T² · KL(teacher ‖ student) of each image ``[N]``, in nats (Hinton et al. 2015, "Distilling the knowledge in a
    neural network", 2); with several labels an image, the sum of the classes' own.

    T² makes gradients as large as those of labels, whatever T is.

    Args:
        logits: the student's ``[N, C]``, or of several students, classes and then images last, ``[A, C, N]``.
        answers: the teachers' probabilities at temperature T, ``[N, C]`` or ``[C, N]``.
    """
    soft = logits / temperature
    if multi_label:
        each = kl_div(logsigmoid(soft), answers.expand_as(soft), reduction="none")
        each = each + kl_div(logsigmoid(-soft), (1 - answers).expand_as(soft), reduction="none")
    else:
        each = kl_div(soft.log_softmax(1), answers.expand_as(soft), reduction="none")
    return temperature**2 * each.sum(1)


def relations(features: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    """How differently images of a batch lie to each other in a student's features ``[B, width]`` and in a teacher's
    ``[B, any width]`` (RKD, Park et al. 2019, "Relational knowledge distillation", eq. 5 to 10): Huber losses of the
    distances of pairs, by their mean, and of the cosines at each corner of triples."""
    (distances, cosines), (their_distances, their_cosines) = _laid_out(features), _laid_out(taught)
    return DISTANCES * smooth_l1_loss(distances, their_distances) + ANGLES * smooth_l1_loss(cosines, their_cosines)


def _laid_out(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances of all pairs ``[B, B]``, in units of their mean, and cosines ``[B, B, B]`` of the angles at each image
    between the ways to two others; from inner products alone, so that no width is too large."""
    centred = features - features.mean(0)
    inner = centred @ centred.T
    lengths = inner.diagonal()
    squares = lengths[:, None] + lengths[None] - 2 * inner
    # Of an image and itself, or its copy, the root has no derivative.
    apart = squares > LEAST * lengths.mean()
    distances = torch.where(apart, squares, 1.0).sqrt()
    at = inner[None] - inner[:, :, None] - inner[:, None] + lengths[:, None, None]
    both = apart[:, :, None] & apart[:, None]
    cosines = torch.where(both, at / (distances[:, :, None] * distances[:, None]), 0.0)
    distances = torch.where(apart, distances, 0.0)
    return distances / (distances.sum() / apart.sum().clamp(min=1)).clamp(min=1e-12), cosines
