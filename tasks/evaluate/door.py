"""The door of the evaluate stage."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tasks.evaluate.check import check_leading
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.decisions.choices import report_choices
from tasks.evaluate.figures import curves_figure, rates_figure
from tasks.evaluate.findings import findings
from tasks.evaluate.further import AnyScores, Further, classes_over, report_further
from tasks.evaluate.neighbours.leaks import find_near, leak_findings, measure_leak, near_table
from tasks.evaluate.neighbours.mistakes import list_confusions, show_mistakes
from tasks.evaluate.neighbours.nearest import Learned
from tasks.evaluate.neighbours.suspects import report_suspects
from tasks.evaluate.numbers.answers import Numbers
from tasks.evaluate.numbers.door import report_leading_number
from tasks.evaluate.report import Answers, predicted, report_split, surest_mistakes
from tasks.evaluate.scores.intervals import Interval
from tasks.evaluate.scores.metrics import Scores
from tasks.evaluate.scores.multi_label import MultiLabelScores
from tasks.evaluate.scores.regression import NumberScores
from tasks.evaluate.shift.kinship import report_kinship, write_reference
from tasks.evaluate.slices.weak_spots import report_slices
from tasks.evaluate.teachers import report_teachers
from tasks.fingerprint import code_version, fingerprint
from tasks.groups import group_numbers
from tasks.ingest.versioning import is_known
from tasks.leak import Leak
from tasks.progress import progress
from tasks.records import Candidate, Dataset, Evaluation, FeatureSet
from tasks.teachers import Teachers
from tasks.train.door import labelled
from tasks.train.heads import Head, predict_probabilities
from tasks.train.methods import METHODS
from tasks.train.task import targets_of
from tasks.workspace import Workspace, fresh_folder

FOLDS = "folds of train"
"""What is chosen on where a head was cross-validated."""


def evaluate_candidate(
    config: EvaluateConfig, dataset: Dataset, features: FeatureSet, candidate: Candidate, workspace: Workspace,
    look_alikes: Path | None = None, frozen: FeatureSet | None = None, teachers: Teachers | None = None,
) -> Evaluation:  # fmt: skip
    """Write a report (see `tasks.records` for the files' schemas) and return its figures.

    Nothing is reported on ``tune``: it is a part of train, and a head may have been fitted to it.

    Args:
        look_alikes: folder of what the frozen backbone's features say about look-alikes, where there are any.
        frozen: features of all images by the backbone as it was before training; ``features`` where it still is.
        teachers: that the candidate learned from, where it did.
    """
    check_leading(config, dataset.target)
    code = code_version(Path(__file__).parent)
    taught = [teachers.fingerprint, *(is_known(each.data, workspace) for each in teachers.versions)] if teachers else []
    name = fingerprint(code, config.model_dump(), dataset.fingerprint, candidate.fingerprint, *taught)
    final = workspace.cache / "evaluations" / name
    splits = [dataset.report_on] if dataset.choose_on == "tune" else [dataset.choose_on, dataset.report_on]
    learned = Learned.of(dataset, frozen or features)
    steps = len(splits) + 1 + bool(dataset.further)
    with fresh_folder(final) as folder, progress("evaluate", steps, "part") as advance:
        if dataset.target.kind == "number":
            numbers = report_leading_number(config, dataset, features, candidate, learned, splits, folder)
            suspects, wrong = report_suspects(dataset, frozen or features, look_alikes, config.seed, folder)
            leading = Leading([*numbers.splits], {}, numbers.leaks, numbers.worse, suspects, wrong)
            advance(len(splits))
        else:
            leading = _report_classes(
                config, dataset, features, candidate, learned, splits, folder, workspace, advance, look_alikes, frozen,
                teachers,
            )  # fmt: skip
        _draw_training(candidate, folder)
        unlike = report_kinship(dataset, frozen or features, candidate, config.seed, folder)
        further = report_further(config, dataset, features, candidate, splits, folder)
        advance(bool(dataset.further))
        told = (*findings(leading.found, dataset, look_alikes), *leak_findings(leading.leaks))
        said = (*told, *leading.taught, *unlike, *leading.worse, *leading.wrong, *further.findings)
        evaluation = _evaluation(name, final, leading, further, said)
        (folder / "metrics.json").write_text(json.dumps(_as_json(evaluation), indent=2, allow_nan=False))
        advance(1)
    return evaluation


@dataclass
class Leading:
    """What was found of the leading task.

    Attributes:
        found: the answers on each split, and what was measured of them.
        given: what thresholds that were chosen, and teachers, give.
        suspects: labels that are likely wrong.
        worse, wrong, taught: what has to be said of slices, of labels, and of teachers and domains.
    """

    found: list[tuple[Answers | Numbers, AnyScores]]
    given: dict[str, Interval]
    leaks: dict[str, Leak]
    worse: list[str]
    suspects: int = 0
    wrong: list[str] = field(default_factory=list)
    taught: list[str] = field(default_factory=list)


def _report_classes(
    config: EvaluateConfig, dataset: Dataset, features: FeatureSet, candidate: Candidate, learned: Learned,
    splits: Sequence[str], folder: Path, workspace: Workspace, advance: Callable[[int], None],
    look_alikes: Path | None, frozen: FeatureSet | None, teachers: Teachers | None,
) -> Leading:  # fmt: skip
    found: list[tuple[Answers, Scores | MultiLabelScores]] = []
    leaks: dict[str, Leak] = {}
    for split in splits:
        answers = answer(split, dataset, features, candidate)
        found.append((answers, report_split(answers, dataset, config, folder)))
        leaks[split] = _report_neighbours(answers, dataset, learned, folder)
        advance(1)
    _keep_reference(found, dataset, features, candidate, config, folder)
    given, worse = _report_choices(config, dataset, features, candidate, found, folder)
    suspects, wrong = report_suspects(dataset, frozen or features, look_alikes, config.seed, folder)
    theirs: dict[str, Interval] = {}
    told: list[str] = []
    if teachers:
        theirs, told = report_teachers(teachers, [answers for answers, _ in found], dataset, workspace)
    told += _elsewhere(dataset, candidate)
    return Leading([*found], given | theirs, leaks, worse, suspects, wrong, told)


def _elsewhere(dataset: Dataset, candidate: Candidate) -> list[str]:
    """Whether figures of an adapted model are of images that it is not for."""
    if not candidate.chosen.get("adapted"):
        return []
    manifest = dataset.read_manifest()
    learned, held_out, pool = (
        {*manifest.loc[manifest["split"] == split, "domain"].fillna("")}
        for split in ("train", dataset.report_on, "pool")
    )
    if learned.isdisjoint(held_out) or pool <= learned | {""}:
        return []
    return [
        f"{dataset.report_on}: its images are of domains that have labels, and the model is for another one, whose "
        "statistics it is served with: these figures say little of it; label some images of that domain and name it in "
        "ingest.split.target"
    ]


def answer(split: str, dataset: Dataset, features: FeatureSet, candidate: Candidate) -> Answers:
    """What a candidate makes of a split."""
    manifest = dataset.read_manifest()
    rows = manifest[manifest["split"] == split].reset_index(drop=True)
    inputs, targets = labelled(dataset, features, rows)
    head = Head.load(candidate.head)
    probabilities = predict_probabilities(head, inputs).numpy()
    return Answers(split, rows, targets.numpy(), probabilities, group_numbers(rows), float(head.temperature))


def _keep_reference(
    found: list[tuple[Answers, Scores | MultiLabelScores]], dataset: Dataset, features: FeatureSet,
    candidate: Candidate, config: EvaluateConfig, folder: Path,
) -> None:  # fmt: skip
    """Of the first of the splits that the candidate has not learned from, and that are of what it is served on."""
    elsewhere = candidate.cross_validated or METHODS[candidate.method].unlabelled
    answers = found[-1 if elsewhere else 0][0]
    inputs, _ = labelled(dataset, features, answers.rows)
    write_reference(answers, inputs.numpy(), Head.load(candidate.head), config.seed, folder)


def _draw_training(candidate: Candidate, folder: Path) -> None:
    curves = curves_figure(pd.read_parquet(candidate.curves), f"{candidate.method} head")
    curves.savefig(folder / "curves.png", dpi=120)
    if candidate.rates:
        rates_figure(pd.read_parquet(candidate.rates)).savefig(folder / "rates.png", dpi=120)


def _report_choices(
    config: EvaluateConfig, dataset: Dataset, features: FeatureSet, candidate: Candidate,
    found: list[tuple[Answers, Scores | MultiLabelScores]], folder: Path,
) -> tuple[dict[str, Interval], list[str]]:  # fmt: skip
    """What thresholds that were chosen on one split give on each, and the parts on which the model is worse."""
    splits = [answers for answers, _ in found]
    if candidate.held_out is not None:
        name = FOLDS if candidate.cross_validated else dataset.choose_on
        choosing = _held_out(dataset, candidate.held_out, name)
    else:
        choosing = splits[0] if len(splits) == 2 else answer(dataset.choose_on, dataset, features, candidate)
    given = report_choices(config, dataset, choosing, splits, folder)

    def features_of(rows: pd.DataFrame) -> torch.Tensor:
        return labelled(dataset, features, rows)[0]

    worse = [line for of in splits for line in report_slices(config, dataset, choosing, of, features_of, folder)]
    return given, worse


def _held_out(dataset: Dataset, file: Path, name: str) -> Answers:
    """What images that the candidate has learned from are given by heads of its cross-validation that have not; or that
    are not of the domain that it is served on, as images of their own."""
    manifest, given = dataset.read_manifest(), pd.read_parquet(file)
    rows = given[["path"]].merge(manifest, on="path", validate="one_to_one")
    targets = targets_of(dataset, rows).numpy()
    return Answers(name, rows, targets, np.stack(given["probability"].to_list()), group_numbers(rows))


def _evaluation(name: str, final: Path, leading: Leading, further: Further, said: tuple[str, ...]) -> Evaluation:
    found = leading.found
    measured = {f"{of.split}/{figure}": value for of, scores in found for figure, value in scores.metrics.items()}
    over = [classes_over(of.split, scores) for of, scores in found if not isinstance(scores, NumberScores)]
    return Evaluation(
        fingerprint=name,
        report=final,
        metrics=measured | leading.given | further.metrics,
        groups={of.split: int(of.groups.max()) + 1 for of, _ in found if of.groups is not None} | further.groups,
        classes={figure: count for each in (*over, further.classes) for figure, count in each.items()},
        leaks=leading.leaks,
        suspects=leading.suspects,
        findings=said,
    )


def _report_neighbours(answers: Answers, dataset: Dataset, learned: Learned, folder: Path) -> Leak:
    """Write what was learned from that is near to the images of a split, and to the mistakes among them."""
    split = answers.split
    show_mistakes(surest_mistakes(answers, dataset), split, dataset, learned, folder)
    if not dataset.multi_label:
        confusions = list_confusions(predicted(answers, dataset))
        confusions.to_csv(folder / f"{split}_confusions.csv", index=False, float_format="%.4f")
    near = find_near(answers.rows, learned)
    if near.near.any():
        near_table(answers.rows, near, learned).to_csv(folder / f"{split}_near.csv", index=False, float_format="%.4g")
    return measure_leak(answers, near)


def _as_json(evaluation: Evaluation) -> dict[str, dict[str, float | None]]:
    entries: dict[str, dict[str, float | None]] = {}
    for figure, interval in evaluation.metrics.items():
        entry = _bounds(interval)
        if figure in evaluation.classes:
            entry["classes"] = evaluation.classes[figure]
        if (of := figure.rpartition("/")[0]) in evaluation.groups:
            entry["groups"] = evaluation.groups[of]
        entries[figure] = entry
    for split, leak in evaluation.leaks.items():
        for name, interval in (("inflation", leak.inflation), ("without_near", leak.far)):
            entries[f"{split}/{name}"] = _bounds(interval)
        entries[f"{split}/near"] = {"value": leak.share}
    return entries


def _bounds(interval: Interval) -> dict[str, float | None]:
    known = (None if math.isnan(bound) else bound for bound in interval)
    return dict(zip(("value", "low", "high"), known, strict=True))
