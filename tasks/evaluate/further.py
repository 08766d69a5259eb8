"""Tasks beside the leading one: each measured on the images that have a label of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.neighbours.mistakes import list_confusions
from tasks.evaluate.numbers.answers import Numbers, told_by
from tasks.evaluate.numbers.report import report_numbers
from tasks.evaluate.report import Answers, predicted, report_split
from tasks.evaluate.scores.intervals import Interval
from tasks.evaluate.scores.metrics import Scores, positives
from tasks.evaluate.scores.multi_label import MultiLabelScores
from tasks.evaluate.scores.regression import NumberScores
from tasks.groups import group_numbers
from tasks.records import Candidate, Dataset, FeatureSet
from tasks.target import BLIND, LABEL, Target, chance
from tasks.train.heads import Head, predict_probabilities
from tasks.train.task import read_features, targets_of

FEWEST, LEAST = 30, 2
"""Images with a label below which figures of a task are called rough, and below which there are none."""

JUDGED = {"class": "accuracy", "labels": "average_precision_macro", "number": "r2"}
"""The figure that a task of each kind is judged by."""

AnyScores = Scores | MultiLabelScores | NumberScores


@dataclass
class Further:
    """What was measured of further tasks.

    Attributes:
        metrics: ``split/task/figure`` to (value, low, high).
        groups, classes: as those of `tasks.records.Evaluation`, by ``split/task`` and by the figure.
        findings: a line for each thing worth knowing.
    """

    metrics: dict[str, Interval] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def add(self, answers: Answers | Numbers, scores: AnyScores) -> None:
        """What was measured of a task on a split."""
        self.metrics |= {f"{answers.called}/{figure}": value for figure, value in scores.metrics.items()}
        if answers.groups is not None:
            self.groups[answers.called] = int(answers.groups.max()) + 1
        if not isinstance(scores, NumberScores):
            self.classes |= classes_over(answers.called, scores)


def report_further(
    config: EvaluateConfig, dataset: Dataset, features: FeatureSet, candidate: Candidate, splits: Sequence[str],
    folder: Path,
) -> Further:  # fmt: skip
    """Write the files of every further task and split, each named after both, into a folder."""
    found = Further()
    for target in dataset.further:
        for split in splits:
            answers = answer_further(target, split, dataset, features, candidate)
            if answers is None:
                found.findings.append(f"{split}/{target.name}: fewer than {LEAST} images have a label: not measured")
                continue
            scores = _reported(answers, target, dataset, config, folder)
            found.add(answers, scores)
            found.findings += _told(answers, scores, target, split == dataset.report_on)
    return found


def answer_further(
    target: Target, split: str, dataset: Dataset, features: FeatureSet, candidate: Candidate
) -> Answers | Numbers | None:
    """What a candidate makes of a further task on the images of a split that have a label of it; None where these are
    fewer than two."""
    manifest = dataset.read_manifest()
    rows = labelled_rows(manifest[manifest["split"] == split], target)
    if len(rows) < LEAST:
        return None
    head, inputs = Head.load(candidate.further[target.name]), read_features(features, rows)
    return answers_of(target, split, rows, dataset, head, inputs)


def answers_of(
    target: Target, split: str, rows: pd.DataFrame, dataset: Dataset, head: Head, inputs: torch.Tensor
) -> Answers | Numbers:
    """What a head makes of features float32 ``[N, width]`` of rows of `labelled_rows`."""
    if target.kind == "number":
        return told_by(head, inputs, split, rows, target.unit, target.name)
    targets = targets_of(dataset, rows, target).numpy()
    probabilities = predict_probabilities(head, inputs).numpy()
    groups = group_numbers(rows)
    return Answers(split, rows, targets, probabilities, groups, float(head.temperature), target.name)


def labelled_rows(rows: pd.DataFrame, target: Target) -> pd.DataFrame:
    """The rows of a manifest that have a label of a task, as ``label``, numbered from 0."""
    known = rows[rows[target.column].notna()]
    return known.assign(label=known[target.column]).reset_index(drop=True)


def seen_by(dataset: Dataset, target: Target) -> Dataset:
    """A dataset as if it had this task alone, in the column ``label``."""
    return dataset.model_copy(update={"targets": (target.model_copy(update={"column": LABEL}),)})


def classes_over(called: str, scores: Scores | MultiLabelScores) -> dict[str, int]:
    """How many classes each macro figure is the mean over."""
    return {
        f"{called}/{figure}": int(scores.per_class[figure.removesuffix("_macro")].notna().sum())
        for figure in scores.metrics
        if figure.endswith("_macro")
    }


def _reported(
    answers: Answers | Numbers, target: Target, dataset: Dataset, config: EvaluateConfig, folder: Path
) -> AnyScores:
    if isinstance(answers, Numbers):
        return report_numbers(answers, config, folder)
    alone = seen_by(dataset, target)
    scores = report_split(answers, alone, config, folder)
    if target.kind == "class":
        confusions = list_confusions(predicted(answers, alone))
        confusions.to_csv(folder / f"{answers.file}_confusions.csv", index=False, float_format="%.4f")
    return scores


def _told(answers: Answers | Numbers, scores: AnyScores, target: Target, held_out: bool) -> Iterator[str]:
    if len(answers.rows) < FEWEST:
        yield f"{answers.called}: only {len(answers.rows):,} images have a label, so its figures are rough"
    blind = _chance(answers, target)
    figure = JUDGED[target.kind]
    value, low, high = scores.metrics[figure]
    if held_out and low <= blind:
        name = "R²" if figure == "r2" else figure.removesuffix("_macro").replace("_", " ")
        told = f"{answers.called}: {name} {value:.4f} [{low:.4f}, {high:.4f}]"
        yield f"{told} is no better than {BLIND[target.kind]}, {blind:.4f}"


def _chance(answers: Answers | Numbers, target: Target) -> float:
    if isinstance(answers, Numbers):
        return chance(target.kind, (), 0)
    counts = positives(answers.targets, len(target.classes)).sum(0)
    return chance(target.kind, counts.tolist(), len(answers.targets))
