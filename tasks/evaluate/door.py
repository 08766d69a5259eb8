"""The door of the evaluate stage."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tasks.evaluate.check import check_decisions
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.decisions.choices import report_choices
from tasks.evaluate.figures import curves_figure, rates_figure
from tasks.evaluate.findings import findings
from tasks.evaluate.neighbours.leaks import find_near, leak_findings, measure_leak, near_table
from tasks.evaluate.neighbours.mistakes import list_confusions, show_mistakes
from tasks.evaluate.neighbours.nearest import Learned
from tasks.evaluate.neighbours.suspects import report_suspects
from tasks.evaluate.report import Answers, predicted, report_split, surest_mistakes
from tasks.evaluate.scores.intervals import Interval
from tasks.evaluate.scores.metrics import Scores
from tasks.evaluate.scores.multi_label import MultiLabelScores
from tasks.evaluate.shift.kinship import report_kinship, write_reference
from tasks.evaluate.slices.weak_spots import report_slices
from tasks.evaluate.teachers import report_teachers
from tasks.fingerprint import code_version, fingerprint
from tasks.groups import group_numbers
from tasks.leak import Leak
from tasks.progress import progress
from tasks.records import Candidate, Dataset, Evaluation, FeatureSet
from tasks.teachers import Teachers
from tasks.train.door import labelled
from tasks.train.heads import Head, predict_probabilities
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
    check_decisions(config, dataset.classes, dataset.multi_label)
    code = code_version(Path(__file__).parent)
    taught = [teachers.fingerprint] if teachers else []
    name = fingerprint(code, config.model_dump(), dataset.fingerprint, candidate.fingerprint, *taught)
    final = workspace.cache / "evaluations" / name
    splits = [dataset.report_on] if dataset.choose_on == "tune" else [dataset.choose_on, dataset.report_on]
    found: list[tuple[Answers, Scores | MultiLabelScores]] = []
    leaks: dict[str, Leak] = {}
    learned = Learned.of(dataset, frozen or features)
    with fresh_folder(final) as folder, progress("evaluate", len(splits) + 1, "part") as advance:
        for split in splits:
            answers = answer(split, dataset, features, candidate)
            found.append((answers, report_split(answers, dataset, config, folder)))
            leaks[split] = _report_neighbours(answers, dataset, learned, folder)
            advance(1)
        _draw_training(candidate, folder)
        _keep_reference(found, dataset, features, candidate, config, folder)
        given, worse = _report_choices(config, dataset, features, candidate, found, folder)
        unlike = report_kinship(dataset, frozen or features, candidate, config.seed, folder)
        suspects, wrong = report_suspects(dataset, frozen or features, look_alikes, config.seed, folder)
        theirs, told = (
            report_teachers(teachers, [answers for answers, _ in found], dataset, workspace) if teachers else ({}, [])
        )
        said = (*findings(found, dataset, look_alikes), *leak_findings(leaks), *told, *unlike, *worse, *wrong)
        evaluation = _evaluation(name, final, found, given | theirs, leaks, said, suspects)
        (folder / "metrics.json").write_text(json.dumps(_as_json(evaluation), indent=2, allow_nan=False))
        advance(1)
    return evaluation


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
    """Of the first of the splits that the candidate has not learned from."""
    answers = found[-1 if candidate.cross_validated else 0][0]
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
        choosing = _held_out(dataset, candidate.held_out)
    else:
        choosing = splits[0] if len(splits) == 2 else answer(dataset.choose_on, dataset, features, candidate)
    given = report_choices(config, dataset, choosing, splits, folder)

    def features_of(rows: pd.DataFrame) -> torch.Tensor:
        return labelled(dataset, features, rows)[0]

    worse = [line for of in splits for line in report_slices(config, dataset, choosing, of, features_of, folder)]
    return given, worse


def _held_out(dataset: Dataset, file: Path) -> Answers:
    """What images that the candidate has learned from are given by heads of its cross-validation that have not."""
    manifest, given = dataset.read_manifest(), pd.read_parquet(file)
    rows = given[["path"]].merge(manifest, on="path", validate="one_to_one")
    targets = targets_of(dataset, rows).numpy()
    return Answers(FOLDS, rows, targets, np.stack(given["probability"].to_list()), group_numbers(rows))


def _evaluation(
    name: str, final: Path, found: list[tuple[Answers, Scores | MultiLabelScores]], given: dict[str, Interval],
    leaks: dict[str, Leak], said: tuple[str, ...], suspects: int,
) -> Evaluation:  # fmt: skip
    measured = {f"{of.split}/{figure}": value for of, scores in found for figure, value in scores.metrics.items()}
    return Evaluation(
        fingerprint=name,
        report=final,
        metrics=measured | given,
        groups={of.split: int(of.groups.max()) + 1 for of, _ in found if of.groups is not None},
        classes={
            f"{of.split}/{figure}": int(scores.per_class[figure.removesuffix("_macro")].notna().sum())
            for of, scores in found
            for figure in scores.metrics
            if figure.endswith("_macro")
        },
        leaks=leaks,
        suspects=suspects,
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
        near_table(answers, near, learned).to_csv(folder / f"{split}_near.csv", index=False, float_format="%.4g")
    return measure_leak(answers, near)


def _as_json(evaluation: Evaluation) -> dict[str, dict[str, float | None]]:
    entries: dict[str, dict[str, float | None]] = {}
    for figure, interval in evaluation.metrics.items():
        entry = _bounds(interval)
        if figure in evaluation.classes:
            entry["classes"] = evaluation.classes[figure]
        if (split := figure.partition("/")[0]) in evaluation.groups:
            entry["groups"] = evaluation.groups[split]
        entries[figure] = entry
    for split, leak in evaluation.leaks.items():
        for name, interval in (("inflation", leak.inflation), ("without_near", leak.far)):
            entries[f"{split}/{name}"] = _bounds(interval)
        entries[f"{split}/near"] = {"value": leak.share}
    return entries


def _bounds(interval: Interval) -> dict[str, float | None]:
    known = (None if math.isnan(bound) else bound for bound in interval)
    return dict(zip(("value", "low", "high"), known, strict=True))
