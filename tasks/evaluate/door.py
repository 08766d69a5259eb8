"""The door of the evaluate stage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.door import stage
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.figures import confusion_figure, curves_figure, mistakes_figure, reliability_figure, roc_figure
from tasks.evaluate.metrics import Interval, score
from tasks.fingerprint import code_version, fingerprint
from tasks.ingest.decode import decode
from tasks.progress import progress
from tasks.records import Candidate, Dataset, Evaluation, FeatureSet
from tasks.train.door import labelled
from tasks.train.heads import Head, predict_probabilities
from tasks.workspace import Workspace, fresh_folder

SHOWN_MISTAKES = 24


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
            measured = _report_split(split, config, dataset, features, candidate, folder)
            metrics |= {f"{split}/{metric}": interval for metric, interval in measured.items()}
            advance(1)
        curves_figure(pd.read_parquet(candidate.curves), f"{candidate.method} head").savefig(
            folder / "curves.png", dpi=120
        )
        named = {key: dict(zip(("value", "low", "high"), interval, strict=True)) for key, interval in metrics.items()}
        (folder / "metrics.json").write_text(json.dumps(named, indent=2))
    return Evaluation(fingerprint=name, report=final, metrics=metrics)


def _report_split(
    split: str, config: EvaluateConfig, dataset: Dataset, features: FeatureSet, candidate: Candidate, folder: Path
) -> dict[str, Interval]:
    manifest = dataset.read_manifest()
    rows = manifest[manifest["split"] == split].reset_index(drop=True)
    inputs, targets = labelled(dataset, features, rows)
    labels = targets.numpy()
    probabilities = predict_probabilities(Head.load(candidate.head), inputs).numpy()
    scores = score(labels, probabilities, dataset.classes, resamples=config.resamples, seed=config.seed)

    value, low, high = scores.metrics["accuracy"]
    title = f"{split}: accuracy {value:.2%} [{low:.2%}, {high:.2%}], {len(labels):,} images"
    confusion_figure(scores, dataset.classes, title).savefig(folder / f"{split}_confusion.png", dpi=120)
    roc_figure(labels, probabilities, scores, dataset.classes, title).savefig(folder / f"{split}_roc.png", dpi=120)
    reliability_figure(labels, probabilities, title).savefig(folder / f"{split}_reliability.png", dpi=120)
    scores.per_class.to_csv(folder / f"{split}_per_class.csv", index=False, float_format="%.4f")

    predictions = rows[["path", "label", "hash"]].assign(
        predicted=[dataset.classes[c] for c in probabilities.argmax(1)], probability=probabilities.max(1)
    )
    predictions.to_parquet(folder / f"{split}_predictions.parquet", index=False)
    _show_mistakes(predictions, dataset, f"{split}: the most confident mistakes", folder / f"{split}_mistakes.png")
    return scores.metrics


def _show_mistakes(predictions: pd.DataFrame, dataset: Dataset, title: str, path: Path) -> None:
    wrong = predictions[predictions["label"] != predictions["predicted"]].nlargest(SHOWN_MISTAKES, "probability")
    if wrong.empty:
        return
    images = [np.asarray(decode(dataset.image(hash))) for hash in wrong["hash"]]
    captions = [f"{row.label} taken for\n{row.predicted} ({row.probability:.0%})" for row in wrong.itertuples()]
    mistakes_figure(images, captions, title).savefig(path, dpi=110)
