"""Pictures of what thresholds do: risk and coverage, the operating point."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve

from tasks.evaluate.figures import BLUE, GREY, ORANGE, panels
from tasks.lettering import literal

SIZE = (4.2, 2.8)
"""Inches."""


def risk_coverage_figure(curve: pd.DataFrame, threshold: float | None, accuracy: float, title: str) -> Figure:
    """Accuracy of the surest answers against how many they are, and where the chosen threshold lies.

    Args:
        curve: see `tasks.evaluate.scores.selective.risk_coverage`.
        accuracy: that was asked for.
    """
    figure, [axes] = panels(*SIZE, title, size=9)
    axes.plot(curve["coverage"], curve["accuracy"], color=BLUE, lw=1.4)
    axes.axhline(accuracy, color=GREY, lw=0.8, ls=":")
    given = curve[curve["threshold"] >= (np.inf if threshold is None else threshold)]
    if len(given):
        last = given.iloc[-1]
        axes.plot(last["coverage"], last["accuracy"], "o", color=ORANGE, label=f"confidence ≥ {threshold:.3g}")
        axes.legend(frameon=False, fontsize=8)
    axes.set(xlabel="share of the images that are answered", ylabel="accuracy", xlim=(0, 1.02))
    axes.grid(alpha=0.2)
    return figure


def operating_point_figure(
    positive: np.ndarray, scored: np.ndarray, threshold: float | None, name: str, title: str
) -> Figure:
    """Precision against recall of the positive class ``name``, with the point that was chosen."""
    figure, [axes] = panels(*SIZE, title, size=9)
    if positive.any():
        precision, recall, _ = precision_recall_curve(positive, scored)
        axes.plot(recall, precision, color=BLUE, lw=1.4, drawstyle="steps-post")
    if threshold is not None and positive.any() and (given := scored >= threshold).any():
        axes.plot(given[positive].mean(), positive[given].mean(), "o", color=ORANGE, label=f"from {threshold:.3g} on")
        axes.legend(frameon=False, fontsize=8)
    axes.set(xlabel=f"recall of {literal(name)}", ylabel="precision", xlim=(-0.01, 1.02), ylim=(-0.01, 1.02))
    axes.grid(alpha=0.2)
    return figure
