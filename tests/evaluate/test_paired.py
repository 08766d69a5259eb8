"""Two models on the same images: intervals that cover, tests that raise no false alarm, power that is what it says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from scipy.stats import binom
from sklearn.metrics import average_precision_score

from tasks.evaluate.comparison.pair import COLUMNS, Pair
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.scores import metrics, multi_label
from tasks.evaluate.scores.intervals import Sample
from tasks.evaluate.scores.paired import (
    detectable,
    difference_of_shares,
    differences,
    differences_of_areas,
    holm,
    p_value,
)


def answers(random: np.random.Generator, count: int, gained: float, lost: float) -> tuple[np.ndarray, np.ndarray]:
    """Right answers of two models, of which ``gained`` and ``lost`` are the shares that one has right alone."""
    kind = random.choice(4, count, p=[gained, lost, 0.7 * (1 - gained - lost), 0.3 * (1 - gained - lost)])
    return (kind == 0) | (kind == 2), (kind == 1) | (kind == 2)


@pytest.mark.parametrize("seed", range(5))
def test_the_test_is_mcnemars_exact_one(seed: int) -> None:
    ours, theirs = answers(np.random.default_rng(seed), 200, 0.08, 0.04)
    gained, lost = np.sum(ours & ~theirs), np.sum(theirs & ~ours)
    assert p_value(ours, theirs) == pytest.approx(min(1, 2 * binom.cdf(min(gained, lost), gained + lost, 0.5)))


def test_groups_of_one_give_the_same_answer() -> None:
    ours, theirs = np.arange(300) < 10, np.arange(300) >= 298
    assert p_value(ours, theirs, np.arange(300)) == pytest.approx(p_value(ours, theirs))  # all flips are tried
    ours, theirs = answers(np.random.default_rng(1), 3000, 0.03, 0.022)
    assert p_value(ours, theirs, np.arange(3000)) == pytest.approx(p_value(ours, theirs), abs=0.015)


def test_frames_of_one_film_are_no_evidence_of_their_own() -> None:
    ours = np.repeat([True, True, False, True], 50)
    theirs = np.repeat([False, False, True, False], 50)
    groups = np.repeat(np.arange(4), 50)
    assert p_value(ours, theirs) < 1e-10 and p_value(ours, theirs, groups) == 0.625
    of = difference_of_shares(ours, theirs, groups)
    assert of.low < 0 < of.high and difference_of_shares(ours, theirs).low > 0


@pytest.mark.parametrize(("count", "rate"), [(50, 0.1), (200, 0.05), (1000, 0.02)])
def test_two_equally_good_models_are_told_apart_in_at_most_one_of_twenty_samples(count: int, rate: float) -> None:
    random = np.random.default_rng(count)
    pairs = [answers(random, count, rate, rate) for _ in range(1000)]
    alarms = np.mean([p_value(*pair) < 0.05 for pair in pairs])
    assert alarms <= 0.05 + 2 * (0.05 * 0.95 / 1000) ** 0.5
    covered = np.mean([(of := difference_of_shares(*pair)).low <= 0 <= of.high for pair in pairs])
    assert 0.93 <= covered <= 1


@pytest.mark.parametrize("each", [1, 5])
def test_intervals_cover_the_truth(each: int) -> None:
    """Also where images come in groups whose answers are alike."""
    random = np.random.default_rng(0)
    covered = []
    for _ in range(1000):
        ours, theirs = (np.repeat(side, each) for side in answers(random, 100, 0.12, 0.05))
        of = difference_of_shares(ours, theirs, np.repeat(np.arange(100), each) if each > 1 else None)
        covered.append(of.low <= 0.07 <= of.high)
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize("count", [10, 40])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_p_value_of_errors_does_not_depend_on_their_unit(count: int, grouped: bool) -> None:
    random = np.random.default_rng(0)
    ours = random.exponential(size=2 * count)
    theirs = ours + random.exponential(size=2 * count)
    groups = np.arange(2 * count) // 2 if grouped else None
    if groups is None:
        ours, theirs = ours[:count], theirs[:count]
    least = 2 / 2**count if count == 10 else 1 / 10_001  # of all flips, those of none and of all; of those drawn, none
    for unit in (1e-12, 1e-3, 1.0, 1e9, 1e15):
        assert p_value(unit * ours, unit * theirs, groups) == pytest.approx(least), unit
    same = np.zeros(count)
    assert p_value(same, same) == p_value(same + 3, same + 3) == 1.0


def test_without_a_single_difference_the_interval_is_not_empty() -> None:
    same = np.ones(20, bool)
    of = difference_of_shares(same, same)
    assert of.value == 0 and of.low == pytest.approx(-of.high) and 0.08 < of.high < 0.2
    assert p_value(same, same) == 1.0 and detectable(same, same) >= 1 / 20


def test_a_difference_of_the_stated_size_is_found_in_four_of_five_samples() -> None:
    random = np.random.default_rng(0)
    size = detectable(*answers(random, 500, 0.06, 0.06))
    found = [p_value(*answers(random, 500, 0.06 + size / 2, 0.06 - size / 2)) < 0.05 for _ in range(500)]
    assert 0.7 <= np.mean(found) <= 0.9


def test_figures_differ_as_they_do_when_each_is_measured_alone() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 120)
    ours, theirs = (random.dirichlet(np.ones(3), 120) for _ in range(2))
    sample = Sample(120)
    found = differences(metrics.decided(labels, ours), metrics.decided(labels, theirs), sample, 100)
    for figures in (metrics.ranked, metrics.calibrated):
        found |= differences(figures(labels, ours), figures(labels, theirs), sample, 100)
    found |= differences_of_areas(metrics.areas(labels, ours), metrics.areas(labels, theirs), sample)
    alone = [metrics.score(labels, side, "abc", resamples=100).metrics for side in (ours, theirs)]
    assert set(found) == set(alone[0])
    for name, of in found.items():
        assert (of.ours, of.theirs) == pytest.approx((alone[0][name][0], alone[1][name][0])), name
        assert of.value == of.ours - of.theirs and of.low <= of.value <= of.high
    assert found["accuracy"].high - found["accuracy"].low > 0.1
    assert differences(*[metrics.decided(labels, ours)] * 2, sample, 100)["f1_macro"].high == 0  # the same draws


def test_figures_of_several_labels_differ_likewise() -> None:
    random = np.random.default_rng(0)
    targets = (random.random((80, 3)) < 0.4).astype(float)
    ours, theirs = (random.random((80, 3)) for _ in range(2))
    sample = Sample(80)
    true = targets > 0
    found = differences(multi_label.decided(true, ours), multi_label.decided(true, theirs), sample, 100)
    for figures in (multi_label.ranked, metrics.calibrated):
        found |= differences(figures(true, ours), figures(true, theirs), sample, 100)
    found |= differences_of_areas(metrics.areas(true, ours), metrics.areas(true, theirs), sample)
    alone = [multi_label.score_multi_label(targets, side, "abc", resamples=100).metrics for side in (ours, theirs)]
    for name, of in found.items():
        assert (of.ours, of.theirs) == pytest.approx((alone[0][name][0], alone[1][name][0])), name


@pytest.mark.parametrize("each", [1, 4])
def test_intervals_of_the_difference_of_two_areas_cover_the_truth(each: int) -> None:
    random = np.random.default_rng(0)

    def models(count: int) -> tuple[dict, dict, np.ndarray]:
        labels = random.integers(0, 3, count)
        seen = np.eye(3)[labels] + random.normal(size=(count, 3))
        sides = [np.repeat(softmax(seen + noise * random.normal(size=seen.shape), 1), each, 0) for noise in (0.4, 0.9)]
        first, second = (metrics.areas(np.repeat(labels, each), side) for side in sides)
        return first, second, np.repeat(np.arange(count), each)

    ours, theirs, _ = models(40_000)
    truth = {name: ours[name].value - theirs[name].value for name in ours}
    covered = dict.fromkeys(truth, 0)
    for _ in range(400):
        ours, theirs, groups = models(150)
        sample = Sample(len(groups), groups if each > 1 else None)
        for name, of in differences_of_areas(ours, theirs, sample).items():
            covered[name] += of.low <= truth[name] <= of.high
    assert all(0.92 * 400 <= count <= 0.98 * 400 for count in covered.values()), covered


@pytest.mark.parametrize("level", [0.001, 0.01, 0.05, 0.2, 0.5])
def test_several_questions_raise_p_values_as_holm_does(level: float) -> None:
    values = np.random.default_rng(0).random(12) ** 4
    believed, left = set(), list(np.argsort(values))
    while left and values[left[0]] <= level / len(left):
        believed.add(left.pop(0))
    assert {number for number, raised in enumerate(holm(values.tolist())) if raised <= level} == believed


def test_with_several_labels_the_p_value_is_of_the_figure_that_both_are_judged_by() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, (300, 3)).astype(np.float32)
    theirs, ours = 0.4 * targets + 0.05, random.random((300, 3)) * 0.4  # no answer reaches a half
    rows = pd.DataFrame({"path": [str(n) for n in range(300)]})
    pair = Pair("val", rows, ("a", "b", "c"), targets, ours, theirs, None, 0)
    assert not pair.right[0][targets.any(1)].any() and pair.p < 1e-6
    same = Pair("val", rows, ("a", "b", "c"), targets, ours, ours, None, 0)
    assert same.p == 1
    groups = np.arange(300) % 2
    assert 1e-6 < Pair("val", rows, ("a", "b", "c"), targets, ours, theirs, groups, 0).p < 0.2
    assert Pair("val", rows, ("a", "b", "c"), targets, ours, theirs, groups * 0, 0).p == 1  # nothing is known


def of_several(random: np.random.Generator, blur: float, groups: np.ndarray | None = None) -> Pair:
    """Two models of 300 images' three labels, of which ours sees through a noise of ``blur``, theirs of 0.5; answers
    reach a half now and then."""
    targets = (random.random((300, 3)) < 0.4).astype(np.float32)
    ours, theirs = (0.6 * targets + noise * random.normal(size=(300, 3)) for noise in (blur, 0.5))
    labels = [[name for name, there in zip("abc", row, strict=True) if there] for row in targets]
    rows = pd.DataFrame({"path": [str(n) for n in range(300)], "hash": "0", "label": labels})
    return Pair("val", rows, ("a", "b", "c"), targets, ours, theirs, groups, 0)


def test_with_several_labels_what_could_have_been_seen_is_of_the_figure_that_both_are_judged_by() -> None:
    random = np.random.default_rng(0)
    pairs = [of_several(random, 0.42) for _ in range(60)]
    found = np.array([np.subtract(*(average_precision_score(pair.targets, each) for each in (pair.ours, pair.theirs)))
                      for pair in pairs])  # fmt: skip
    told = [pair.detectable for pair in pairs]
    assert 2.8 * found.std() == pytest.approx(np.mean(told), rel=0.25)
    assert np.mean([detectable(*pair.right) for pair in pairs]) != pytest.approx(np.mean(told), rel=0.25)
    assert 0.9 * told[0] < of_several(np.random.default_rng(0), 0.42, np.arange(300)).detectable < 1.1 * told[0]
    assert np.isnan(of_several(random, 0.42, np.zeros(300, int)).detectable), "of one group nothing is known"
    same = Pair("val", pairs[0].rows, ("a", "b", "c"), pairs[0].targets, pairs[0].ours, pairs[0].ours, None, 0)
    assert same.detectable == 1 / 300


def test_images_without_any_label_and_without_a_part_have_no_slices() -> None:
    rows = pd.DataFrame({"path": ["x", "y"], "hash": "0", "label": [[], []]})
    given = np.full((2, 3), 0.1)
    pair = Pair("val", rows, ("a", "b", "c"), np.zeros((2, 3), np.float32), given, given + 0.8, None, 0)
    slices = pair.slices(0)
    assert slices.empty and list(slices.columns) == [*COLUMNS, "p_holm"] and pair.moved == (2, 0)
    assert pair.differences(EvaluateConfig(resamples=100))["exact_match"].value == 1 and len(pair.changed()) == 2
    assert pair.p == 1 and np.isnan(pair.detectable)


def test_several_labels_of_an_image_that_changed_are_words_as_its_answers_are() -> None:
    changed = of_several(np.random.default_rng(0), 0.1).changed()
    assert {"a, b", "c", ""} <= set(changed["label"]) and {"a, b", "c"} <= set(changed["after"])
