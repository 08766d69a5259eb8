"""CORAL: labelled features are given the covariance of the target's."""

from __future__ import annotations

import torch

from tasks.train.adaptation.alignment import Aligned
from tasks.train.adaptation.covariance import Covariance
from tasks.train.targets import Labelled


def recoloured(train: Labelled, validation: Labelled, target: torch.Tensor, shrinkage: float) -> Aligned:
    """z C_s^(-1/2) C_t^(1/2), z being the source's features, whitened by their own covariance and given the target's
    (CORAL, Sun, Feng & Saenko 2016, "Return of frustratingly easy domain adaptation", algorithm 1)."""
    ours, theirs = (Covariance(images, shrinkage) for images in (train[0], target))
    like_theirs = [theirs.power(ours.power(features, -0.5), 0.5) for features, _ in (train, validation)]
    return Aligned((like_theirs[0], train[1]), (like_theirs[1], validation[1]))
