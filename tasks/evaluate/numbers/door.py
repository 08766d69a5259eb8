"""What is found of a leading task that is a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.neighbours.leaks import find_near, near_table
from tasks.evaluate.neighbours.mistakes import show_mistakes
from tasks.evaluate.neighbours.nearest import Learned
from tasks.evaluate.numbers.answers import Numbers, answer_number
from tasks.evaluate.numbers.leaks import measure_number_leak
from tasks.evaluate.numbers.report import largest_errors, report_numbers
from tasks.evaluate.numbers.slices import report_number_slices
from tasks.evaluate.scores.regression import NumberScores
from tasks.evaluate.shift.kinship import keep_embeddings
from tasks.leak import Leak
from tasks.records import Candidate, Dataset, FeatureSet
from tasks.train.heads import Head
from tasks.train.task import read_features


@dataclass
class NumbersFound:
    """What was measured of each split, leaks by their split, and a line for each part that is told worse."""

    splits: list[tuple[Numbers, NumberScores]] = field(default_factory=list)
    leaks: dict[str, Leak] = field(default_factory=dict)
    worse: list[str] = field(default_factory=list)


def report_leading_number(
    config: EvaluateConfig, dataset: Dataset, features: FeatureSet, candidate: Candidate, learned: Learned,
    splits: Sequence[str], folder: Path,
) -> NumbersFound:  # fmt: skip
    """Write the files of each split: figures, the largest errors beside what was learned from, slices, and what the
    model is used to."""
    found = NumbersFound()
    for split in splits:
        answers = answer_number(split, dataset, features, candidate)
        found.splits.append((answers, report_numbers(answers, config, folder)))
        show_mistakes(largest_errors(answers), split, dataset, learned, folder, "largest errors")
        near = find_near(answers.rows, learned)
        if near.near.any():
            near_table(answers.rows, near, learned).to_csv(
                folder / f"{split}_near.csv", index=False, float_format="%.4g"
            )
        found.leaks[split] = measure_number_leak(answers, near)
    told = [answers for answers, _ in found.splits]
    # A head that was cross-validated has learned from all but the held-out images.
    unseen = told[-1 if candidate.cross_validated else 0]
    inputs = read_features(features, unseen.rows).numpy()
    keep_embeddings(unseen.rows, unseen.groups, inputs, Head.load(candidate.head), unseen.split, config.seed, folder)
    choosing = told[0] if len(told) == 2 else answer_number(dataset.choose_on, dataset, features, candidate)
    for answers in told:
        found.worse += report_number_slices(
            config, dataset, choosing, answers, lambda rows: read_features(features, rows), folder
        )
    return found
