"""Subspace alignment: the axes along which labelled features vary most are turned towards the target's."""

from __future__ import annotations

import torch

from tasks.train.adaptation.alignment import Aligned
from tasks.train.adaptation.covariance import Covariance
from tasks.train.targets import Labelled


def turned(train: Labelled, validation: Labelled, target: torch.Tensor, dimensions: int) -> Aligned:
    """z P_s M with M = P_sᵀ P_t, z being the source's features, P_s and P_t the axes ``[width, d]`` along which source
    and target vary most (Fernando, Habrard, Sebban & Tuytelaars 2013, "Unsupervised visual domain adaptation using
    subspace alignment", algorithm 1). The target is held against these by z P_t.

    Args:
        dimensions: d, at most; fewer where the images of a domain vary along fewer axes.
    """
    ours, theirs = (Covariance(images).principal(dimensions) for images in (train[0], target))
    turn = ours @ (ours.T @ theirs)
    return Aligned((train[0] @ turn, train[1]), (validation[0] @ turn, validation[1]), axes=theirs)
