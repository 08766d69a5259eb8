"""Thresholds keep what they promise; costs and operating points are what they are defined as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from tasks.errors import ConfigurationError
from tasks.evaluate.check import check_decisions
from tasks.evaluate.config import EvaluateConfig, OperatingPointConfig
from tasks.evaluate.decisions.costs import cost_matrix
from tasks.evaluate.decisions.operating_point import choose_threshold
from tasks.evaluate.decisions.thresholds import as_json, choose, state
from tasks.evaluate.report import Answers
from tasks.evaluate.scores.selective import least_sure, risk_coverage
from tasks.records import Dataset
from tasks.target import one_task

HERE = Path("nowhere")


def dataset(*classes: str) -> Dataset:
    return Dataset(
        fingerprint="d", source="photos", version="v", manifest=HERE, report=HERE, images=HERE,
        targets=one_task(classes), counts={}, choose_on="val", report_on="test", quarantined=0,
    )  # fmt: skip


def answers(split: str, labels: np.ndarray, probabilities: np.ndarray) -> Answers:
    return Answers(split, pd.DataFrame({"path": range(len(labels))}), labels, probabilities)


def answered(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and answers that are right so often."""
    confidence = random.beta(6, 1, count)
    return confidence, random.random(count) < confidence


@pytest.mark.parametrize("each", [1, 5])
def test_answers_that_are_given_are_right_as_often_as_promised(each: int) -> None:
    random = np.random.default_rng(0)
    population, truth = answered(random, 200_000)
    broken, coverages = 0, []
    for _ in range(150):
        confidence, right = (np.repeat(side, each) for side in answered(random, 600))
        groups = np.repeat(np.arange(600), each) if each > 1 else None
        threshold = least_sure(confidence, right, 0.9, groups)
        if threshold is not None:
            broken += truth[population >= threshold].mean() < 0.9
            coverages.append((population >= threshold).mean())
    assert broken <= 0.08 * 150 and len(coverages) > 140 and np.mean(coverages) > 0.4


def test_where_all_is_well_every_answer_is_given_and_few_images_promise_nothing() -> None:
    sure = np.linspace(0.5, 1, 400)
    assert least_sure(sure, np.ones(400, bool), 0.95) == 0.0
    assert least_sure(sure[:20], np.ones(20, bool), 0.95) is None
    assert least_sure(sure, np.zeros(400, bool), 0.95) is None
    assert least_sure(sure, np.ones(400, bool), 0.95, np.zeros(400, int)) is None  # one group


def test_the_curve_ends_at_the_accuracy_of_all() -> None:
    confidence, right = answered(np.random.default_rng(1), 5_000)
    curve = risk_coverage(confidence, right)
    assert len(curve) <= 200 and curve["coverage"].is_monotonic_increasing
    assert curve.iloc[-1][["coverage", "accuracy"]].tolist() == pytest.approx([1, right.mean()])
    assert curve["accuracy"].iloc[20] > right.mean()


@pytest.mark.parametrize("aim", ["recall", "precision"])
def test_the_operating_point_reaches_its_aim_at_the_least_expense(aim: str) -> None:
    random = np.random.default_rng(2)
    positive = random.random(400) < 0.3
    scored = np.round(np.clip(0.3 + 0.3 * positive + random.normal(0, 0.2, 400), 0, 1), 2)
    threshold = choose_threshold(OperatingPointConfig(**{aim: 0.8}), positive, scored)
    reached = {
        cut: (positive & (scored >= cut)).sum() / ((scored >= cut) if aim == "precision" else positive).sum()
        for cut in np.unique(scored)
    }
    enough = [cut for cut, value in reached.items() if value >= 0.8]
    assert threshold == (max(enough) if aim == "recall" else min(enough))
    assert choose_threshold(OperatingPointConfig(precision=1.0), ~positive, positive * 1.0) is None
    assert choose_threshold(OperatingPointConfig(recall=0.5), np.zeros(400, bool), scored) is None


def test_what_was_chosen_on_one_split_is_stated_of_another() -> None:
    random = np.random.default_rng(3)
    config = EvaluateConfig(operating_point={"recall": 0.9}, costs={"sick": {"well": 20}}, resamples=100)
    of = dataset("well", "sick")

    def split(name: str) -> Answers:
        labels = (random.random(800) < 0.2).astype(int)
        seen = random.normal(size=800) + 2 * labels - 1
        score = 1 / (1 + np.exp(-(2 * seen + np.log(0.25))))  # as probable as it is
        return answers(name, labels, np.stack([1 - score, score], 1))

    val, test = split("val"), split("test")
    chosen = choose(config, of, val)
    assert chosen.split == "val" and chosen.positive == 1 and chosen.constant == 1
    there, seen = (state(chosen, config, of, side) for side in (val, test))
    assert there["operating_recall"][0] >= 0.9 and 0.8 < seen["operating_recall"][0] <= 1
    given = test.probabilities[:, 1] >= chosen.threshold
    assert seen["operating_precision"][0] == (test.targets[given] == 1).mean()
    assert seen["operating_specificity"][0] == (~given)[test.targets == 0].mean()
    assert seen["selective_accuracy"][0] > 0.93 and all(low <= value <= high for value, low, high in seen.values())
    assert seen["cost_minimised"][0] < seen["cost"][0] and seen["cost_minimised"][0] < seen["cost_constant"][0]
    wrong = test.probabilities.argmax(1) != test.targets
    assert seen["cost"][0] == pytest.approx((wrong * np.where(test.targets == 1, 20, 1)).mean())
    assert seen["cost_constant"][0] == pytest.approx((test.targets == 0).mean())
    told = as_json(chosen, config, of)
    assert told["operating_point"] == {"positive": "sick", "recall": 0.9, "threshold": chosen.threshold}
    assert told["costs"] == {"constant": "sick"} and told["chosen_on"] == "val"


def test_where_there_is_no_image_to_choose_on_there_are_no_thresholds() -> None:
    config = EvaluateConfig(operating_point={"recall": 0.9})
    chosen = choose(config, dataset("a", "b"), answers("tune", np.zeros(0, int), np.zeros((0, 2))))
    told = as_json(chosen, config, dataset("a", "b"))
    assert told["chosen_on"] is told["abstain"]["threshold"] is told["operating_point"]["threshold"] is None
    assert state(chosen, config, dataset("a", "b"), answers("test", np.array([0, 1]), np.eye(2))) == {}


def test_costs_are_stated_in_their_own_unit() -> None:
    random = np.random.default_rng(0)
    labels, given = random.integers(0, 2, (2, 200))
    seen = answers("test", labels, np.where(given[:, None] == np.arange(2), 0.9, 0.1))

    def stated(unit: float) -> dict[str, tuple[float, float, float]]:
        each = {"sick": {"well": 20 * unit}, "well": {"sick": unit}}
        config = EvaluateConfig(costs=each, resamples=100)
        of = dataset("well", "sick")
        return {
            name: cost for name, cost in state(choose(config, of, seen), config, of, seen).items() if "cost" in name
        }

    for name, cost in stated(1e-15).items():
        assert cost == pytest.approx([1e-15 * bound for bound in stated(1)[name]], rel=1e-6, abs=0), name
    assert stated(0)["cost"] == (0, 0, 0)


def test_costs_that_are_not_named_are_one() -> None:
    matrix = cost_matrix({"a": {"b": 5, "*": 2}, "c": {"c": 0.5}}, ["a", "b", "c"])
    assert matrix.tolist() == [[0, 5, 2], [1, 0, 1], [1, 1, 0.5]]


@pytest.mark.parametrize(
    ("section", "classes", "several", "told"),
    [
        ({"costs": {"sik": {"well": 5}}}, ["sick", "well"], False, "no class is called 'sik'; there are sick, well"),
        ({"costs": {"sick": {"wel": 5, "*": 1}}}, ["sick", "well"], False, "no class is called 'wel'"),
        ({"costs": {"sick": {"well": 5}}}, ["sick", "well"], True, "evaluate.costs is for one label an image"),
        ({"operating_point": {"recall": 0.9}}, ["a", "b", "c"], False, "for two classes, and there are 3"),
        ({"operating_point": {"recall": 0.9, "positive": "c"}}, ["a", "b"], False, "neither of the classes a and b"),
        ({"operating_point": {"recall": 0.9}}, ["a", "b"], True, "operating_point is for one label an image"),
    ],
)
def test_classes_that_are_not_there_are_one_error(section: dict, classes: list[str], several: bool, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        check_decisions(EvaluateConfig.model_validate(section), classes, several)


def test_an_operating_point_has_one_aim() -> None:
    for section in ({}, {"recall": 0.9, "precision": 0.9}):
        with pytest.raises(ValidationError, match="name one of recall and precision"):
            OperatingPointConfig.model_validate(section)
