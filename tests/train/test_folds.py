"""What a cross-validation leaves out together, and what it is worth where images come in groups."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.model_selection import RepeatedStratifiedKFold

from tasks.errors import ConfigurationError
from tasks.train.folds import parts_of
from tasks.train.solvers import fit_linear_cross_validated
from tasks.train.targets import Labelled


def grouped(count: int, seed: int) -> tuple[Labelled, np.ndarray]:
    """Ten images of each group, all alike: the group is told from the features, the class only with luck."""
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(count), 10)
    labels = np.arange(count) % 2
    looks = random.normal(size=(count, 40)) + 0.25 * labels[:, None]
    features = looks[groups] + 0.1 * random.normal(size=(len(groups), 40))
    return (torch.tensor(features, dtype=torch.float32), torch.tensor(labels[groups])), groups


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("count", [3, 8, 40])
def test_no_group_is_on_both_sides_and_every_image_is_left_out_once_in_each_repeat(count: int, several: bool) -> None:
    (_, labels), groups = grouped(count, 0)
    targets = torch.stack([labels, 1 - labels], 1).float() if several else labels
    parts = parts_of(targets, 2, 5, 3, seed=0, groups=groups)
    for kept, left in parts:
        assert not set(groups[kept]) & set(groups[left]) and len(kept) + len(left) == len(groups)
    assert np.array_equal(np.sort(np.concatenate([left for _, left in parts])), np.repeat(np.arange(len(groups)), 3))


def test_without_groups_folds_are_scikit_learns() -> None:
    labels = torch.arange(60) % 3
    found = parts_of(labels, 3, 5, 2, seed=4)
    wanted = RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=4).split(labels, labels)
    for one, other in zip(found, wanted, strict=True):
        assert all(np.array_equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


def test_a_class_without_images_takes_no_fold_away() -> None:
    labels = torch.arange(60) % 3
    assert len(parts_of(labels, 4, 5, 1, seed=0)) == 5


def test_the_merit_over_folds_is_that_of_groups_that_were_never_seen() -> None:
    train, groups = grouped(40, seed=1)
    fresh, _ = grouped(400, seed=2)
    honest = fit_linear_cross_validated(train, 2, groups=groups)
    flattered = fit_linear_cross_validated(train, 2)
    reached = (honest.head(fresh[0]).argmax(1) == fresh[1]).double().mean().item()
    assert abs(honest.score - reached) < 0.1 and flattered.score > reached + 0.15
    assert honest.chosen["l2"] > flattered.chosen["l2"]


def test_where_no_group_can_be_left_out_it_is_told_in_one_line() -> None:
    labels = torch.arange(20) % 2
    with pytest.raises(ConfigurationError, match="single group of images"):
        parts_of(labels, 2, 5, 1, seed=0, groups=labels.numpy())
    with pytest.raises(ConfigurationError, match="single group of images"):
        parts_of(torch.ones(20, 2), 2, 5, 1, seed=0, groups=np.zeros(20, np.int64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lopsided = np.where(np.arange(20) < 3, 0, 1 + np.arange(20) // 18)
        assert parts_of(labels, 2, 5, 1, seed=0, groups=lopsided)
