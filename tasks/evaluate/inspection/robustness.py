"""How good answers stay on images that are corrupted more and more."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from tasks.evaluate.figures import BLUE, GREY, ORANGE
from tasks.evaluate.inspection.corruptions import SEVERITIES, STRENGTHS, corrupt
from tasks.evaluate.inspection.looking import Looker, goodness
from tasks.evaluate.scores.intervals import Interval, Sample
from tasks.evaluate.shift.two_samples import effect_size
from tasks.model.decisions import THRESHOLD
from tasks.model.reference import embed
from tasks.progress import progress
from tasks.train.heads import Head, predict_numbers, predict_probabilities
from tasks.wording import quantity

PASSES = 1 + len(STRENGTHS) * len(SEVERITIES)
"""Of the network, for each image."""

CLEAN = "none"
RESAMPLES = 1000
MILD = 2
"""Severity up to which an answer should hold."""
FEWEST = 20
"""Images below which nothing is found."""


def measure_robustness(
    looker: Looker, pixels: torch.Tensor, targets: np.ndarray, sample: Sample
) -> tuple[pd.DataFrame, Interval]:
    """Answers to images, as they are and after each corruption.

    Args:
        pixels: uint8 ``[N, 3, S, S]``.
        targets: labels int ``[N]``, ones and zeros ``[N, C]`` or, where the head tells a number, those, float ``[N]``.

    Returns:
        The table of `tasks.records.Inspection`, and the mean over all corruptions and severities with its interval.
    """
    number = looker.head.number
    measure = "mae" if number else "accuracy" if targets.ndim == 1 else "f1_samples"
    cases = [(CLEAN, 0), *product(STRENGTHS, SEVERITIES)]
    rows, marks = [], []
    clean: np.ndarray | None = None
    with progress("corrupt", len(cases) * len(pixels), "img") as advance:
        for kind, severity in cases:
            features = looker.features(corrupt(pixels, kind, severity) if severity else pixels)
            embeddings = embed(looker.head, features)
            clean = embeddings if clean is None else clean
            right = _marks(looker.head, features, targets)
            value, low, high = mean_within(right, sample, bounded=not number)
            shift = effect_size(clean, embeddings, paired=True) if severity and len(pixels) > 1 else 0.0
            rows.append(
                {
                    "corruption": kind,
                    "severity": severity,
                    "images": len(pixels),
                    measure: value,
                    "low": low,
                    "high": high,
                    "shift": shift,
                }
            )
            marks += [right] * bool(severity)
            advance(len(pixels))
    return pd.DataFrame(rows), mean_within(np.mean(marks, axis=0), sample, bounded=not number)


def _marks(head: Head, features: torch.Tensor, targets: np.ndarray) -> np.ndarray:
    """How right each answer is or, of a number, its absolute error: float ``[N]``."""
    if head.number:
        return np.abs(predict_numbers(head, features)[0].double().numpy() - targets)
    return goodness(targets, predict_probabilities(head, features).numpy(), THRESHOLD)


def mean_within(values: np.ndarray, sample: Sample, bounded: bool = True) -> Interval:
    """Over images, or groups of them; Wilson's interval where values are yes or no.

    Args:
        bounded: whether they lie in 0..1; else they are positive.
    """
    if bounded and set(np.unique(values)) <= {0.0, 1.0}:
        return sample.share(values > 0)
    drawn = sample.resample(lambda weights: {"mean": weights @ values / weights.sum(1)}, RESAMPLES)
    return sample.interval(float(values.mean()), drawn["mean"], bounded=bounded)


def fragile(table: pd.DataFrame, split: str) -> Iterator[str]:
    """What breaks an answer that hardly changes an image: at severity 1 or 2, half of what was right is lost, or the
    error of a number is doubled."""
    measure = table.columns[3]
    clean = table.iloc[0]
    if clean["images"] < FEWEST:
        return
    for kind, part in table[table["severity"].between(1, MILD)].groupby("corruption", sort=False):
        lost = (part[measure] < clean[measure] / 2) & (part["high"] < clean["low"])
        if measure == "mae":
            lost = (part[measure] > clean[measure] * 2) & (part["low"] > clean["high"])
        broken = part[lost]
        if len(broken):
            first = broken.iloc[0]
            number = measure == "mae"
            what = "MAE" if number else measure.replace("_", " ")
            figures = (clean[measure], first[measure], first["low"], first["high"])
            before, after, low, high = (quantity(float(each)) if number else f"{each:.2f}" for each in figures)
            yield (
                f"{split}: {kind} of severity {first['severity']} takes {what} from {before} to {after} "
                f"[{low}, {high}] ({clean['images']:,} images)"
            )


def robustness_figure(table: pd.DataFrame, title: str) -> Figure:
    """The measure and its interval against severity, a panel for each corruption."""
    measure = table.columns[3]
    clean = table.iloc[0]
    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    for axes, kind in zip(panels.flat, STRENGTHS, strict=True):
        part = pd.concat([table.iloc[:1], table[table["corruption"] == kind]])
        axes.axhline(clean[measure], color=GREY, lw=0.8, ls=":")
        axes.fill_between(part["severity"], part["low"], part["high"], color=BLUE, alpha=0.18, lw=0)
        axes.plot(part["severity"], part[measure], "o-", ms=3, color=BLUE, label=measure.replace("_", " "))
        axes.plot(part["severity"], part["shift"], "--", lw=1, color=ORANGE, label="shift (d)")
        axes.set_title(kind, fontsize=9)
        axes.set(xticks=[0, *SEVERITIES], ylim=(0, None if measure == "mae" else 1.02))
        axes.grid(alpha=0.2)
    for axes in panels[1]:
        axes.set_xlabel("severity")
    panels[0, 0].legend(frameon=False, fontsize=8, loc="lower left")
    return figure
