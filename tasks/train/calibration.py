"""Temperature scaling: probabilities that mean what they say (Guo et al. 2017, "On calibration of modern neural
networks"), and standard deviations of numbers."""

from __future__ import annotations

import torch

from tasks.train.heads import Head
from tasks.train.targets import Labelled, is_multi_label

STEPS = 60
COLDEST, HOTTEST = 1e-4, 1e4


@torch.no_grad()
def calibrate(head: Head, images: Labelled) -> None:
    """Give a fitted head the temperature that suits images best that it has not learned from."""
    features, targets = images
    fitting = stretch if head.number else temperature
    head.temperature.mul_(fitting(head(features), targets))


@torch.no_grad()
def temperature(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """The T under which logits / T ``[N, C]`` have the smallest cross-entropy on images that they were not fitted to.

    The loss is convex in 1/T, so bisection on its slope finds the minimum. So that images told apart without a mistake
    do not make it certain of everything, one more image counts that any class is as likely for.

    Args:
        targets: int64 ``[N]``, or zeros and ones float32 ``[N, C]``.
    """
    logits = logits.double()
    several = is_multi_label(targets)
    right = targets.double() if several else torch.zeros_like(logits).scatter_(1, targets[:, None], 1.0)
    unknown = 0.5 if several else 1 / logits.shape[1]
    right = (right * len(targets) + unknown) / (len(targets) + 1)
    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(STEPS):
        inverse = (low * high) ** 0.5
        scaled = logits * inverse
        shares = scaled.sigmoid() if several else scaled.softmax(1)
        slope = ((shares - right) * logits).sum()
        low, high = (inverse, high) if slope < 0 else (low, inverse)
    return (low * high) ** -0.5


@torch.no_grad()
def stretch(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """The factor on standard deviations under which numbers ``[N]`` that they were not fitted to are likeliest: the
    root of the mean squared residual, each in units of its own deviation (Laves et al. 2020, "Well-calibrated
    regression uncertainty in medical imaging with deep learning", eq. 9). One more image counts, of residual 1.

    Args:
        outputs: means and logarithms of variances, ``[N, 2]``.
    """
    means, variances = outputs.double().unbind(1)
    squares = (targets.double() - means).square() * (-variances).exp()
    return float(((squares.sum() + 1) / (len(targets) + 1)).sqrt())
