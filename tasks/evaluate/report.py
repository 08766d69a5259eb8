"""What is written about one split: tables, pictures, and the mistakes that the model was surest of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.figures import (
    confusion_figure,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
)
from tasks.evaluate.scores.calibration import reliability_table, uncalibrated
from tasks.evaluate.scores.intervals import Interval
from tasks.evaluate.scores.metrics import Scores, score
from tasks.evaluate.scores.multi_label import MultiLabelScores, score_multi_label
from tasks.ingest.decode import decode
from tasks.limits import Limits
from tasks.model.decisions import THRESHOLD, given_labels, named
from tasks.records import Dataset

SHOWN_MISTAKES, SIDE = 24, 256
"""Images, and pixels of their longer side."""


class OfSplit:
    """What answers of every kind have in common.

    Attributes:
        split: its name.
        rows: the manifest's, ``N`` of them, numbered from 0; ``label`` is that of the task.
        groups: of each image int64 ``[N]``, where images come in groups (see `tasks.groups`).
        task: its name, unless it leads.
    """

    split: str
    rows: pd.DataFrame
    groups: np.ndarray | None
    task: str

    @property
    def file(self) -> str:
        """How the names of its files begin."""
        return f"{self.split}_{self.task}" if self.task else self.split

    @property
    def called(self) -> str:
        """How it is spoken of, and how the names of its figures begin."""
        return f"{self.split}/{self.task}" if self.task else self.split

    @property
    def size(self) -> str:
        """How many images, and groups of them, in words."""
        within = "" if self.groups is None else f" in {self.groups.max() + 1:,} groups"
        return f"{len(self.rows):,} images{within}"


@dataclass(frozen=True)
class Answers(OfSplit):
    """A split, and what the candidate makes of it.

    Attributes:
        split: its name.
        rows: the manifest's, ``N`` of them, numbered from 0.
        targets: int64 ``[N]`` or, where an image may have several labels, ones and zeros float32 ``[N, C]``.
        probabilities: float32 ``[N, C]``.
        groups: of each image int64 ``[N]``, where images come in groups (see `tasks.groups`).
        temperature: that the logits were divided by.
        task: its name, unless it leads.
    """

    split: str
    rows: pd.DataFrame
    targets: np.ndarray
    probabilities: np.ndarray
    groups: np.ndarray | None = None
    temperature: float = 1.0
    task: str = ""


def report_split(answers: Answers, dataset: Dataset, config: EvaluateConfig, folder: Path) -> Scores | MultiLabelScores:
    """Write the files of a split, each named after it, into a folder; returns its figures of merit."""
    report = _report_several if dataset.multi_label else _report_one
    return report(answers, dataset, config, folder)


def surest_mistakes(answers: Answers, dataset: Dataset) -> pd.DataFrame:
    """The surest mistakes: columns path, hash, label, predicted, probability (of what is wrong), with several labels an
    image wrong (the label that is), and caption."""
    if dataset.multi_label:
        return _wrong_labels(answers, dataset)
    predictions = predicted(answers, dataset)
    wrong = predictions[predictions["label"] != predictions["predicted"]].nlargest(SHOWN_MISTAKES, "probability")
    captions = [f"{row.label} taken for\n{row.predicted} ({row.probability:.0%})" for row in wrong.itertuples()]
    return wrong.assign(caption=captions)


def predicted(answers: Answers, dataset: Dataset) -> pd.DataFrame:
    """The likeliest class of each image: columns path, label, hash, predicted and probability."""
    return answers.rows[["path", "label", "hash"]].assign(
        predicted=[dataset.classes[c] for c in answers.probabilities.argmax(1)],
        probability=answers.probabilities.max(1),
    )


def _report_one(answers: Answers, dataset: Dataset, config: EvaluateConfig, folder: Path) -> Scores:
    """One label an image."""
    file, labels, probabilities = answers.file, answers.targets, answers.probabilities
    scores = score(
        labels, probabilities, dataset.classes, groups=answers.groups, resamples=config.resamples, seed=config.seed
    )
    value, low, high = scores.metrics["accuracy"]
    title = f"{answers.called}: accuracy {value:.2%} [{low:.2%}, {high:.2%}], {answers.size}"
    confusion_figure(scores, dataset.classes, title).savefig(folder / f"{file}_confusion.png", dpi=120)
    roc_figure(labels, probabilities, scores, dataset.classes, title).savefig(folder / f"{file}_roc.png", dpi=120)
    report_reliability(answers, title, folder)
    scores.per_class.to_csv(folder / f"{file}_per_class.csv", index=False, float_format="%.4f")

    predictions = predicted(answers, dataset).assign(group=answers.rows["group"])
    predictions.to_parquet(folder / f"{file}_predictions.parquet", index=False)
    return scores


def _report_several(answers: Answers, dataset: Dataset, config: EvaluateConfig, folder: Path) -> MultiLabelScores:
    """An image may have several labels, or none."""
    file, targets, probabilities = answers.file, answers.targets, answers.probabilities
    scores = score_multi_label(
        targets, probabilities, dataset.classes, groups=answers.groups, resamples=config.resamples, seed=config.seed
    )
    title = f"{answers.called}: {_precision(scores.metrics, scores.per_class)}, {answers.size}"
    precision_recall_figure(targets, probabilities, scores, dataset.classes, title).savefig(
        folder / f"{file}_precision_recall.png", dpi=120
    )
    roc_figure(targets, probabilities, scores, dataset.classes, title).savefig(folder / f"{file}_roc.png", dpi=120)
    report_reliability(answers, title, folder)
    scores.per_class.to_csv(folder / f"{file}_per_class.csv", index=False, float_format="%.4f")

    answers.rows[["path", "label", "hash"]].assign(
        label=pd.Series(named(targets > 0, dataset.classes)),
        predicted=pd.Series(given_labels(probabilities, dataset.classes)),
        probability=pd.Series(list(probabilities)),
        group=answers.rows["group"],
    ).to_parquet(folder / f"{file}_predictions.parquet", index=False)
    return scores


def report_reliability(answers: Answers, title: str, folder: Path) -> None:
    """The reliability diagram and its table, as served and, where a temperature was fitted, before."""
    targets, served = answers.targets, answers.probabilities
    before = None
    if answers.temperature != 1:
        before = uncalibrated(served, answers.temperature, targets.ndim == 2)
    stages = {"served": served} if before is None else {"before": before, "served": served}
    tables = [reliability_table(targets, of).assign(stage=stage) for stage, of in stages.items()]
    pd.concat(tables).to_csv(folder / f"{answers.file}_reliability.csv", index=False, float_format="%.4f")
    reliability_figure(targets, served, title, before, answers.temperature).savefig(
        folder / f"{answers.file}_reliability.png", dpi=120
    )


def _precision(metrics: dict[str, Interval], per_class: pd.DataFrame) -> str:
    """The average precision in words, with the classes that it is the mean over where these are not all."""
    value, low, high = metrics["average_precision_macro"]
    there = int((per_class["images"] > 0).sum())
    over = f" over {there:,} of {len(per_class):,} classes" if there < len(per_class) else ""
    return f"average precision {value:.4f} [{low:.4f}, {high:.4f}]{over}"


def _wrong_labels(answers: Answers, dataset: Dataset) -> pd.DataFrame:
    """As `surest_mistakes`. Of an image with several, only the one that is surest."""
    there, probabilities = answers.targets > 0, answers.probabilities
    given = probabilities >= THRESHOLD
    sureness = np.where(given == there, 0.0, np.where(given, probabilities, 1 - probabilities))
    worst = sureness.argmax(1)
    rows = [row for row in np.argsort(-sureness.max(1), kind="stable")[:SHOWN_MISTAKES] if sureness[row].any()]
    captions = [
        f"{dataset.classes[worst[row]]}\n"
        + ("not labelled" if given[row, worst[row]] else "labelled")
        + f", given {probabilities[row, worst[row]]:.0%}"
        for row in rows
    ]
    labels = given_labels(probabilities[rows], dataset.classes)
    return answers.rows.iloc[rows][["path", "hash", "label"]].assign(
        predicted=pd.Series(labels, index=answers.rows.index[rows], dtype=object),
        probability=[probabilities[row, worst[row]] for row in rows],
        wrong=[dataset.classes[worst[row]] for row in rows],
        caption=captions,
    )


def small(path: Path, limits: Limits) -> np.ndarray:
    picture = decode(path, limits)
    picture.thumbnail((SIDE, SIDE))
    return np.asarray(picture)
