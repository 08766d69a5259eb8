"""Changes of colour and shape that are drawn from a list of many, for batches of images, on their device."""

from __future__ import annotations

from functools import cache

import torch
from torchvision.transforms import v2

from tasks.preprocess.kinds import Augment

GROUP = 4
"""Images of a batch that share a draw: torchvision draws once a call, and each call costs a few kernels."""


def changed(images: torch.Tensor, augment: Augment) -> torch.Tensor:
    """Images uint8 ``[N, 3, S, S]`` after ``trivial``: TrivialAugment (Müller & Hutter 2021), or ``rand``: RandAugment
    (Cubuk et al. 2020); any other value leaves them as they are. What is random follows torch's global seed."""
    if augment not in ("trivial", "rand"):
        return images
    policy = _policy(augment)
    return torch.cat([policy(group) for group in images.split(GROUP)])


@cache
def _policy(augment: Augment) -> v2.Transform:
    return v2.TrivialAugmentWide() if augment == "trivial" else v2.RandAugment()
