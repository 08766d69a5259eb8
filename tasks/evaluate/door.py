"""The door of the evaluate stage."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from tasks.door import stage
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.figures import curves_figure, rates_figure
from tasks.evaluate.metrics import Interval
from tasks.evaluate.report import Answers, report_split
from tasks.fingerprint import code_version, fingerprint
from tasks.progress import progress
from tasks.records import Candidate, Dataset, Evaluation, FeatureSet
from tasks.train.door import labelled
from tasks.train.heads import Head, predict_probabilities
from tasks.workspace import Workspace, fresh_folder


@stage()
def evaluate(config: EvaluateConfig, dataset: Dataset, features: FeatureSet, candidate: Candidate) -> Evaluation:
    """Measure the candidate on the split that choices were made on and on the held-out one."""
    return evaluate_candidate(config, dataset, features, candidate, Workspace.find())


def evaluate_candidate(
    config: EvaluateConfig, dataset: Dataset, features: FeatureSet, candidate: Candidate, workspace: Workspace
) -> Evaluation:
    """Write a report (see `tasks.records` for the files' schemas) and return its figures.

    Nothing is reported on ``tune``: it is a part of train, and a head may have been fitted to it.
    """
    code = code_version(Path(__file__).parent)
    name = fingerprint(code, config.model_dump(), dataset.fingerprint, candidate.fingerprint)
    final = workspace.cache / "evaluations" / name
    splits = [dataset.report_on] if dataset.choose_on == "tune" else [dataset.choose_on, dataset.report_on]
    metrics: dict[str, Interval] = {}
    with fresh_folder(final) as folder, progress("evaluate", len(splits), "split") as advance:
        for split in splits:
            measured = report_split(_answer(split, dataset, features, candidate), dataset, config, folder)
            metrics |= {f"{split}/{metric}": interval for metric, interval in measured.items()}
            advance(1)
        curves_figure(pd.read_parquet(candidate.curves), f"{candidate.method} head").savefig(
            folder / "curves.png", dpi=120
        )
        if candidate.rates:
            rates_figure(pd.read_parquet(candidate.rates)).savefig(folder / "rates.png", dpi=120)
        named = {key: dict(zip(("value", "low", "high"), interval, strict=True)) for key, interval in metrics.items()}
        (folder / "metrics.json").write_text(json.dumps(named, indent=2))
    return Evaluation(fingerprint=name, report=final, metrics=metrics)


def _answer(split: str, dataset: Dataset, features: FeatureSet, candidate: Candidate) -> Answers:
    manifest = dataset.read_manifest()
    rows = manifest[manifest["split"] == split].reset_index(drop=True)
    inputs, targets = labelled(dataset, features, rows)
    probabilities = predict_probabilities(Head.load(candidate.head), inputs)
    return Answers(split, rows, targets.numpy(), probabilities.numpy())
