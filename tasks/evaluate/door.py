"""The door of the evaluate stage."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import torch

from tasks.evaluate.check import check_decisions
from tasks.evaluate.choices import report_choices
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.figures import curves_figure, rates_figure
from tasks.evaluate.findings import findings
from tasks.evaluate.kinship import report_kinship, write_reference
from tasks.evaluate.metrics import Scores
from tasks.evaluate.multi_label import MultiLabelScores
from tasks.evaluate.report import Answers, report_split
from tasks.evaluate.weak_spots import report_slices
from tasks.fingerprint import code_version, fingerprint
from tasks.groups import group_numbers
from tasks.progress import progress
from tasks.records import Candidate, Dataset, Evaluation, FeatureSet
from tasks.train.door import labelled
from tasks.train.heads import Head, predict_probabilities
from tasks.workspace import Workspace, fresh_folder


def evaluate_candidate(
    config: EvaluateConfig, dataset: Dataset, features: FeatureSet, candidate: Candidate, workspace: Workspace,
    look_alikes: Path | None = None, frozen: FeatureSet | None = None,
) -> Evaluation:  # fmt: skip
    """Write a report (see `tasks.records` for the files' schemas) and return its figures.

    Nothing is reported on ``tune``: it is a part of train, and a head may have been fitted to it.

    Args:
        look_alikes: folder of what the frozen backbone's features say about look-alikes, where there are any.
        frozen: features of all images, by the backbone as it was before training; where they are given, held-out images
            are compared with those that were learned from.
    """
    check_decisions(config, dataset.classes, dataset.multi_label)
    code = code_version(Path(__file__).parent)
    name = fingerprint(code, config.model_dump(), dataset.fingerprint, candidate.fingerprint)
    final = workspace.cache / "evaluations" / name
    splits = [dataset.report_on] if dataset.choose_on == "tune" else [dataset.choose_on, dataset.report_on]
    found: list[tuple[Answers, Scores | MultiLabelScores]] = []
    with fresh_folder(final) as folder, progress("evaluate", len(splits), "split") as advance:
        for split in splits:
            answers = answer(split, dataset, features, candidate)
            found.append((answers, report_split(answers, dataset, config, folder)))
            advance(1)
        curves_figure(pd.read_parquet(candidate.curves), f"{candidate.method} head").savefig(
            folder / "curves.png", dpi=120
        )
        if candidate.rates:
            rates_figure(pd.read_parquet(candidate.rates)).savefig(folder / "rates.png", dpi=120)
        _keep_reference(found, dataset, features, candidate, config, folder)
        unlike = report_kinship(dataset, frozen, candidate, config.seed, folder) if frozen else ()
        evaluation = _evaluation(name, final, found, dataset, look_alikes, tuple(unlike))
        choosing = found[0][0] if len(found) == 2 else answer(dataset.choose_on, dataset, features, candidate)
        splits_found = [of for of, _ in found]
        honest = None if candidate.cross_validated else choosing
        given = report_choices(config, dataset, honest, splits_found, folder)

        def features_of(rows: pd.DataFrame) -> torch.Tensor:
            return labelled(dataset, features, rows)[0]

        worse = [
            line for of in splits_found for line in report_slices(config, dataset, choosing, of, features_of, folder)
        ]
        evaluation = evaluation.model_copy(
            update={"metrics": evaluation.metrics | given, "findings": (*evaluation.findings, *worse)}
        )
        (folder / "metrics.json").write_text(json.dumps(_as_json(evaluation), indent=2, allow_nan=False))
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


def _evaluation(
    name: str, final: Path, found: list[tuple[Answers, Scores | MultiLabelScores]], dataset: Dataset,
    look_alikes: Path | None, unlike: tuple[str, ...] = (),
) -> Evaluation:  # fmt: skip
    return Evaluation(
        fingerprint=name,
        report=final,
        metrics={f"{of.split}/{figure}": value for of, scores in found for figure, value in scores.metrics.items()},
        groups={of.split: int(of.groups.max()) + 1 for of, _ in found if of.groups is not None},
        classes={
            f"{of.split}/{figure}": int(scores.per_class[figure.removesuffix("_macro")].notna().sum())
            for of, scores in found
            for figure in scores.metrics
            if figure.endswith("_macro")
        },
        findings=(*findings(found, dataset, look_alikes), *unlike),
    )


def _as_json(evaluation: Evaluation) -> dict[str, dict[str, float | None]]:
    entries: dict[str, dict[str, float | None]] = {}
    for figure, interval in evaluation.metrics.items():
        known = (None if math.isnan(bound) else bound for bound in interval)
        entry: dict[str, float | None] = dict(zip(("value", "low", "high"), known, strict=True))
        if figure in evaluation.classes:
            entry["classes"] = evaluation.classes[figure]
        if (split := figure.partition("/")[0]) in evaluation.groups:
            entry["groups"] = evaluation.groups[split]
        entries[figure] = entry
    return entries
