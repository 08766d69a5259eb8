"""What is written about a split where images have numbers: tables, pictures, and the largest errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.numbers.answers import Numbers
from tasks.evaluate.numbers.figures import errors_figure, scatter_figure, spread_figure
from tasks.evaluate.report import SHOWN_MISTAKES
from tasks.evaluate.scores.regression import NumberScores, score_numbers
from tasks.wording import quantity


def report_numbers(answers: Numbers, config: EvaluateConfig, folder: Path) -> NumberScores:
    """Write the files of a split, each named after it, into a folder; returns its figures of merit."""
    file, targets, mean, unit = answers.file, answers.targets, answers.mean, answers.unit
    scores = score_numbers(
        targets, mean, answers.spread, groups=answers.groups, resamples=config.resamples, seed=config.seed
    )
    title = f"{answers.called}: {told_errors(scores, unit)}, {answers.size}"
    pictures = {
        "scatter": scatter_figure(targets, mean, title, unit), "errors": errors_figure(targets, mean, title, unit),
        "spread": spread_figure(scores.spread, f"{answers.called}: how often numbers lie within, {answers.size}"),
    }  # fmt: skip
    for name, picture in pictures.items():
        picture.savefig(folder / f"{file}_{name}.png", dpi=120)
    scores.spread.to_csv(folder / f"{file}_spread.csv", index=False, float_format="%.6g")
    predictions = answers.table.assign(group=answers.rows["group"])
    predictions.to_parquet(folder / f"{file}_predictions.parquet", index=False)
    return scores


def told_errors(scores: NumberScores, unit: str) -> str:
    """The mean absolute error and what is explained, in words."""
    (mae, low, high), (r2, *_) = scores.metrics["mae"], scores.metrics["r2"]
    return f"MAE {quantity(mae, unit)} [{quantity(low)}, {quantity(high)}], R² {r2:.4f}"


def largest_errors(answers: Numbers) -> pd.DataFrame:
    """The largest errors: columns path, hash, label, predicted, low, high, error (predicted less true) and caption;
    none of numbers that are right."""
    order = np.argsort(-answers.errors, kind="stable")[:SHOWN_MISTAKES]
    order = order[answers.errors[order] > 0]
    found = answers.table.iloc[order][["path", "hash", "label", "predicted", "low", "high"]]
    found = found.assign(error=(answers.mean - answers.targets)[order])
    captions = [
        f"{quantity(true, answers.unit)} taken for\n{quantity(told)} ± {quantity(high - told)}"
        for true, told, high in zip(found["label"], found["predicted"], found["high"], strict=True)
    ]
    return found.assign(caption=captions)
