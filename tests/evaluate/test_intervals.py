"""Intervals of figures over images and over groups: closed forms, coverage, edges."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from tasks.evaluate.scores.intervals import Sample, _score_interval, disagree, mean_interval, wilson
from tasks.evaluate.scores.metrics import score


def tracks(count: int, seed: int, likely: float = 0.85, alike: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Groups of some thirty images each, and which are right: how often, differs from group to group."""
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(count), 1 + random.poisson(29, count))
    rates = random.beta(likely / alike, (1 - likely) / alike, count)
    return groups, random.random(len(groups)) < rates[groups]


def width(interval: tuple[float, float, float]) -> float:
    return interval[2] - interval[1]


def test_frames_of_tracks_are_as_sure_as_a_bootstrap_over_tracks_says() -> None:
    groups, right = tracks(71, seed=3)
    by_group, by_image = Sample(len(right), groups).share(right), Sample(len(right)).share(right)
    random = np.random.default_rng(0)
    hits, sizes = np.bincount(groups, weights=right), np.bincount(groups)
    drawn = [hits[chosen].sum() / sizes[chosen].sum() for chosen in random.integers(71, size=(4000, 71))]
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert by_image == wilson(int(right.sum()), len(right)) and width(by_group) > 3.5 * width(by_image)
    assert by_group[0] == right.mean() and by_group[1:] == pytest.approx((low, high), abs=0.02)


def test_a_group_for_each_image_is_as_no_groups() -> None:
    _, right = tracks(30, seed=0)
    groups = np.arange(len(right))
    assert Sample(len(right), groups).share(right) == pytest.approx(Sample(len(right)).share(right), abs=1e-3)
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(3), 500)
    labels = np.array([random.choice(3, p=row) for row in probabilities])
    alone, grouped = (score(labels, probabilities, "abc", groups=by).metrics for by in (None, np.arange(500)))
    for name, (value, low, high) in alone.items():
        assert grouped[name] == pytest.approx((value, low, high), abs=0.25 * (high - low)), name


def test_copies_of_the_images_of_a_group_tell_nothing_new() -> None:
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.ones(3), 60)
    labels = np.array([random.choice(3, p=row) for row in probabilities])
    groups = np.arange(60)
    once = score(labels, probabilities, "abc", groups=groups).metrics
    often = score(np.tile(labels, 9), np.tile(probabilities, (9, 1)), "abc", groups=np.tile(groups, 9)).metrics
    for name, interval in once.items():
        assert often[name] == pytest.approx(interval, abs=0.01), name


@pytest.mark.parametrize(("count", "least"), [(3, 90), (6, 90), (12, 89), (71, 90)])
def test_about_95_percent_of_the_intervals_over_groups_cover_the_truth(count: int, least: int) -> None:
    covered = by_image = 0
    for seed in range(200):
        groups, right = tracks(count, seed, alike=0.3)
        _, low, high = Sample(len(right), groups).share(right)
        covered += low <= 0.85 <= high
        _, low, high = Sample(len(right)).share(right)
        by_image += low <= 0.85 <= high
    assert least <= covered / 2 <= 100 and by_image < 140


def shifted(groups: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of three classes, and probabilities that are off the same way for all twenty images of a group."""
    random = np.random.default_rng(seed)
    of = np.repeat(np.arange(groups), 20)
    labels = random.integers(0, 3, len(of))
    logits = 2.5 * np.eye(3)[labels] + random.normal(0, 1, (groups, 3))[of] + random.normal(0, 1, (len(of), 3))
    shares = np.exp(logits)
    return labels, shares / shares.sum(1, keepdims=True), of


@pytest.mark.slow
@pytest.mark.parametrize(("count", "least", "mean"), [(4, 0.8, 0.91), (20, 0.87, 0.91)])
def test_the_other_figures_intervals_over_groups_cover_the_truth_too(count: int, least: float, mean: float) -> None:
    labels, probabilities, _ = shifted(4000, 99)
    truth = score(labels, probabilities, "abc", resamples=2).metrics
    names = set(truth)
    covered, by_image = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for seed in range(200):
        labels, probabilities, groups = shifted(count, seed)
        for counted, by in ((covered, groups), (by_image, None)):
            metrics = score(labels, probabilities, "abc", groups=by, resamples=100, seed=seed).metrics
            for name in names:
                _, low, high = metrics[name]
                counted[name] += low <= truth[name][0] <= high
    assert min(covered.values()) >= least * 200 and sum(covered.values()) >= mean * 200 * len(names), covered
    assert max(by_image.values()) < 0.88 * 200, by_image


@pytest.mark.filterwarnings("error")
def test_where_nothing_varies_or_there_is_one_group_intervals_are_honestly_wide() -> None:
    right = np.ones(300, bool)
    for count, low in ((71, 0.94), (6, 0.47), (2, 0.0)):
        groups = np.arange(300) % count
        value, below, above = Sample(300, groups).share(right)
        assert value == 1 and above == 1 and low <= below < low + 0.06
    assert Sample(300, np.zeros(300, int)).share(right) == (1, 0, 1)
    one = score(np.arange(30) % 3, np.full((30, 3), 1 / 3), "abc", groups=np.zeros(30, int), resamples=100).metrics
    assert one["accuracy"][1:] == one["f1_macro"][1:] == one["roc_auc_macro"][1:] == (0, 1)
    assert np.isnan(one["log_loss"][1:]).all()


def test_two_samples_of_one_thing_seldom_disagree_and_of_two_things_do() -> None:
    random = np.random.default_rng(0)

    def sure(likely: float, images: int) -> tuple[float, float, float]:
        return Sample(images).share(random.random(images) < likely, 0.99)

    assert sum(disagree(sure(0.9, 200), sure(0.9, 500)) for _ in range(400)) <= 10
    assert sum(disagree(sure(0.97, 200), sure(0.81, 500)) for _ in range(100)) >= 95
    assert not disagree((0.9, 0.8, 0.95), (0.9, 0.8, 0.95)) and disagree((0.2, 0.1, 0.3), (0.9, 0.8, 0.95))

    alike = []
    for seed in range(200):
        pair = [tracks(count, 1000 * count + seed, alike=0.3) for count in (12, 30)]
        alike.append(disagree(*(Sample(len(right), groups).share(right, 0.99) for groups, right in pair)))
    assert sum(alike) <= 8


def test_wilson_is_the_closed_formula() -> None:
    k, n, z = 45, 60, 1.959964
    centre = (k / n + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(k / n * (1 - k / n) / n + z**2 / (4 * n**2))
    assert wilson(k, n) == pytest.approx((k / n, centre - half, centre + half), abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_bounds_lie_around_a_perfect_figure_whatever_the_rounding(value: float) -> None:
    for count in range(1, 2_001):
        low, high = _score_interval(value, count, 1.959963984540054)
        assert 0 <= low <= value <= high <= 1, count


def test_two_groups_say_nothing_of_a_loss() -> None:
    labels, groups = np.zeros(20, int), np.repeat([0, 1], 10)
    probabilities = np.where(np.arange(20)[:, None] < 10, [[0.99, 0.01]], [[0.7, 0.3]])
    value, low, high = score(labels, probabilities, ["a", "b"], groups=groups).metrics["log_loss"]
    assert value == pytest.approx(-(np.log(0.99) + np.log(0.7)) / 2) and np.isnan([low, high]).all()


def test_one_training_alone_tells_nothing_of_its_spread() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean, low, high = mean_interval([0.5])
    assert mean == 0.5 and math.isnan(low) and math.isnan(high)
