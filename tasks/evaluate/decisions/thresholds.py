"""Thresholds that are chosen on one split, and what they give on each: abstention, the operating point, costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.decisions.costs import cheapest_constant, cost_matrix, costs_of, mean_of
from tasks.evaluate.decisions.operating_point import at_threshold, choose_threshold, positive_class
from tasks.evaluate.report import Answers
from tasks.evaluate.scores.intervals import LEVEL, Interval, Sample, share_among
from tasks.evaluate.scores.metrics import RANKED, at_once
from tasks.evaluate.scores.selective import least_sure, rightness, sureness
from tasks.records import Dataset


@dataclass(frozen=True)
class Chosen:
    """What was chosen; None where it was not asked for, or where no threshold gives what was asked for.

    Attributes:
        split: that it was chosen on; None where there was no image to choose on.
        abstain: least confidence of an answer.
        positive: number of the positive class; threshold: least probability of it.
        constant: number of the class that costs least if every image is given it.
    """

    split: str | None
    abstain: float | None = None
    positive: int | None = None
    threshold: float | None = None
    constant: int | None = None


def choose(config: EvaluateConfig, dataset: Dataset, answers: Answers) -> Chosen:
    """Choose by answers to images that the answering model has not learned from."""
    point = config.operating_point
    positive = None if point is None else positive_class(point, dataset.classes)
    if not len(answers.rows):
        return Chosen(None, positive=positive)
    targets, probabilities = answers.targets, answers.probabilities
    right, sure = rightness(targets, probabilities), sureness(targets, probabilities)
    threshold = constant = None
    if point is not None and positive is not None:
        threshold = choose_threshold(point, targets == positive, probabilities[:, positive])
    if config.costs is not None:
        constant = cheapest_constant(targets, cost_matrix(config.costs, dataset.classes))
    abstain = least_sure(sure, right, config.abstain.accuracy, answers.groups)
    return Chosen(answers.split, abstain, positive, threshold, constant)


def state(chosen: Chosen, config: EvaluateConfig, dataset: Dataset, answers: Answers) -> dict[str, Interval]:
    """What was chosen gives on a split: coverage and selective_accuracy of the answers that are not withheld;
    operating_precision, operating_recall, operating_specificity; cost, cost_minimised and cost_constant an image."""
    targets, probabilities, groups = answers.targets, answers.probabilities, answers.groups
    found: dict[str, Interval] = {}
    if chosen.abstain is not None:
        given = sureness(targets, probabilities) >= chosen.abstain
        found["coverage"] = share_among(given, np.ones(len(given), bool), groups)
        found["selective_accuracy"] = share_among(rightness(targets, probabilities), given, groups)
    if chosen.positive is not None and chosen.threshold is not None:
        place = chosen.positive
        found |= at_threshold(targets == place, probabilities[:, place], chosen.threshold, groups)
    if config.costs is not None:
        found |= _costs(chosen, config, dataset, answers)
    return found


def _costs(chosen: Chosen, config: EvaluateConfig, dataset: Dataset, answers: Answers) -> dict[str, Interval]:
    costs = cost_matrix(config.costs or {}, dataset.classes)
    by_image = costs_of(answers.targets, answers.probabilities, costs)
    if chosen.constant is not None:
        by_image["cost_constant"] = costs[answers.targets, chosen.constant]
    # In units of the highest cost: a share, which has an interval also where every image costs as much.
    most = float(costs.max())
    figures = mean_of({name: each / (most or 1.0) for name, each in by_image.items()})
    sample = Sample(len(answers.targets), answers.groups, config.seed)
    drawn = sample.resample(figures, max(config.resamples, RANKED))
    found = {}
    for name, value in at_once(figures, len(answers.targets)).items():
        value, low, high = sample.interval(value, drawn[name])
        found[name] = (most * value, most * low, most * high)
    return found


def as_json(chosen: Chosen, config: EvaluateConfig, dataset: Dataset) -> dict[str, Any]:
    """What was chosen, for ``decisions.json``."""
    found: dict[str, Any] = {
        "chosen_on": chosen.split,
        "abstain": {"accuracy": config.abstain.accuracy, "confidence": LEVEL, "threshold": chosen.abstain},
    }
    if config.operating_point is not None and chosen.positive is not None:
        aim = config.operating_point.model_dump(include={"recall", "precision"}, exclude_none=True)
        found["operating_point"] = {
            "positive": dataset.classes[chosen.positive], **aim, "threshold": chosen.threshold
        }  # fmt: skip
    if config.costs is not None:
        constant = None if chosen.constant is None else dataset.classes[chosen.constant]
        found["costs"] = {"constant": constant}
    return found
