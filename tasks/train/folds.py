"""Cross-validation: which images are left out together."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.model_selection import GroupKFold, RepeatedKFold, RepeatedStratifiedKFold, StratifiedGroupKFold

from tasks.errors import ConfigurationError
from tasks.train.targets import kind_of

Parts = list[tuple[np.ndarray, np.ndarray]]
"""Indices of the images that are learned from, and of those that are left out."""


def parts_of(
    targets: torch.Tensor, classes: int, folds: int, repeats: int, seed: int, groups: np.ndarray | None = None
) -> Parts:
    """The parts of a cross-validation that is repeated; stratified by class, where an image has one.

    Images of a group are left out together. There are no more folds than the rarest class has images, or groups, of
    those that have any, but two at least.

    Args:
        targets: int64 ``[N]``, zeros and ones float32 ``[N, C]``, or numbers float32 ``[N]``.
        groups: of each image int64 ``[N]``, where images come in groups (see `tasks.groups`).

    Raises:
        ConfigurationError: every class has a single image, or group, or there is no more than one.
    """
    several = kind_of(targets) != "class"
    units = np.arange(len(targets)) if groups is None else groups
    folds = min(folds, len(np.unique(units)))
    if not several:
        sizes = np.array([len(np.unique(units[targets.numpy() == label])) for label in range(classes)])
        folds = max(2, min(folds, sizes[sizes > 0].min())) if sizes.max() > 1 else 1
    if folds < 2 and several:
        raise ConfigurationError(
            f"there is a single {'image' if groups is None else 'group of images'} to learn from, and it cannot be "
            "left out to choose the strength of the regularisation by: label more of them"
        )
    if folds < 2:
        raise ConfigurationError(
            f"every class has a single {'image' if groups is None else 'group of images'} to learn from, and none can "
            "be left out to choose the strength of the regularisation by: label a few more, or set train.method to "
            "prototypes"
        )
    with warnings.catch_warnings():
        # A class of one image is in one fold only, which is all that can be done.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return _split(np.zeros(len(targets)) if several else targets.numpy(), several, folds, repeats, seed, groups)


def _split(labels: np.ndarray, several: bool, folds: int, repeats: int, seed: int, groups: np.ndarray | None) -> Parts:
    if groups is None:
        repeated = RepeatedKFold if several else RepeatedStratifiedKFold
        return list(repeated(n_splits=folds, n_repeats=repeats, random_state=seed).split(labels, labels))
    kind = GroupKFold if several else StratifiedGroupKFold
    splitters = [kind(folds, shuffle=True, random_state=seed + repeat) for repeat in range(repeats)]
    parts = [part for splitter in splitters for part in splitter.split(labels, labels, groups)]
    # A few large groups may leave nothing for a fold.
    return [(kept, left) for kept, left in parts if len(kept) and len(left)]
