"""Two samples of one kind are taken for that, and others are told apart, whatever the images come in."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.evaluate.shift.two_samples import compare_samples, effect_size


def test_p_values_of_samples_of_one_kind_are_spread_evenly() -> None:
    random = np.random.default_rng(0)
    found = [
        compare_samples(random.normal(size=(30, 6)), random.normal(size=(20, 6)), seed=seed, permutations=99)
        for seed in range(150)
    ]
    for values in (np.array([shift.p for shift in found]), np.array([shift.p_auc for shift in found])):
        assert 0.35 < values.mean() < 0.65
        assert (values <= 0.1).mean() < 0.2 and (values <= 0.5).mean() == pytest.approx(0.5, abs=0.15)


def test_samples_of_two_kinds_are_told_apart_by_both_tests() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(200, 10)), random.normal(size=(80, 10)) + 0.5
    shift = compare_samples(first, second)
    assert shift.images == (200, 80) and shift.p < 0.01 and shift.p_auc < 0.01 and shift.is_unlike
    # Fisher's classifier of two normals 0.5 * sqrt(10) apart: Phi(d / sqrt(2)) = 0.868.
    assert shift.auc == pytest.approx(0.868, abs=0.04)


def test_the_effect_grows_with_the_distance_and_neither_with_the_sample_nor_with_the_scale() -> None:
    random = np.random.default_rng(0)
    points = random.normal(size=(400, 8))
    effects = [effect_size(points[:200], points[200:] + away) for away in (0.0, 0.3, 0.6)]
    assert effects[0] < 0.1 < effects[1] < effects[2]
    assert effect_size(points[:100], points[300:] + 0.6) == pytest.approx(effects[2], rel=0.2)
    assert effect_size(1000 * points[:200], 1000 * (points[200:] + 0.6)) == pytest.approx(effects[2], rel=1e-3)


def test_the_same_images_changed_are_compared_without_their_pairs() -> None:
    points = np.random.default_rng(0).normal(size=(100, 8))
    assert effect_size(points, points, paired=True) == pytest.approx(0, abs=1e-3)
    assert effect_size(points, points + 1, paired=True) > 0.5


def test_where_images_come_in_groups_groups_are_divided() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 10)
    p_values = []
    for _ in range(40):  # frames of six films each: alike within a film, and of one kind
        points = random.normal(size=(12, 5))[groups] + 0.1 * random.normal(size=(120, 5))
        shifts = [compare_samples(points[:60], points[60:], of, permutations=99) for of in (groups, None)]
        p_values.append([shift.p for shift in shifts])
    by_group, by_image = np.array(p_values).T
    assert (by_group < 0.05).mean() < 0.2 and (by_image < 0.05).mean() > 0.8
