"""Pictures of an evaluation, for the MLflow UI: matplotlib figures without global state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from tasks.evaluate.metrics import CALIBRATION_BINS, Scores

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#777777"  # Okabe & Ito: told apart by colour-blind readers
LEGIBLE = 25
"""Most classes whose cells and names can still be read."""
FEW = 10


def confusion_figure(scores: Scores, classes: Sequence[str], title: str) -> Figure:
    """Confusion matrix, each row's colours scaled to the images of its class; counts where they can be read."""
    count = len(classes)
    rows = scores.confusion / np.maximum(scores.confusion.sum(1, keepdims=True), 1)
    side = float(np.clip(2.5 + 0.45 * count, 4.5, 11))
    figure, axes = _axes(side + 1, side, title)
    image = axes.imshow(rows, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046)
    axes.set(xlabel="predicted", ylabel="true")
    if count <= LEGIBLE:
        names = [_short(name) for name in classes]
        axes.set_xticks(
            range(count),
            names,
            rotation=45 if max(map(len, names)) > 2 else 0,
            ha="center" if max(map(len, names)) <= 2 else "right",
        )
        axes.set_yticks(range(count), names)
        for (row, column), number in np.ndenumerate(scores.confusion):
            if number:
                axes.text(
                    column,
                    row,
                    f"{number:,}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if rows[row, column] > 0.5 else "black",
                )
    return figure


def roc_figure(
    labels: np.ndarray, probabilities: np.ndarray, scores: Scores, classes: Sequence[str], title: str
) -> Figure:
    """ROC curve of each class against the rest; with more than ten classes, of the five worst."""
    figure, axes = _axes(6.5, 5.5, title)
    ranked = scores.per_class["roc_auc"].dropna().sort_values()
    shown = [1] if len(classes) == 2 else sorted(ranked.index if len(classes) <= FEW else ranked.index[:5])
    for c in shown:
        if c in ranked.index:
            false_positive, true_positive, _ = roc_curve(labels == c, probabilities[:, c])
            axes.plot(false_positive, true_positive, lw=1.4, label=f"{_short(classes[c])}  {ranked[c]:.3f}")
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.legend(
        title="area under the curve" if len(classes) <= FEW else "the five smallest areas",
        fontsize=8,
        loc="lower right",
        frameon=False,
    )
    return figure


def curves_figure(curves: pd.DataFrame, title: str) -> Figure:
    """How training went: loss and accuracy against the epoch or, where there is one, the L2 strength."""
    x = "l2" if "l2" in curves else "step"
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    figure.suptitle(title)
    for axes, what in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for column, colour in zip([str(c) for c in curves if str(c).endswith(f"/{what}")], (GREY, BLUE), strict=False):
            axes.plot(curves[x], curves[column], "o-", ms=3, color=colour, label=column)
        axes.set(xlabel="L2 regularisation" if x == "l2" else "epoch", ylabel=what)
        if x == "l2":
            axes.set_xscale("log")
            axes.invert_xaxis()
        axes.legend(frameon=False, fontsize=8)
        axes.grid(alpha=0.2)
    return figure


def reliability_figure(labels: np.ndarray, probabilities: np.ndarray, title: str) -> Figure:
    """Accuracy against confidence (reliability diagram), with the number of images below."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    which = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    count = np.bincount(which, minlength=CALIBRATION_BINS)
    filled = count > 0
    accuracy = np.bincount(which, weights=right, minlength=CALIBRATION_BINS)[filled] / count[filled]
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.set_title(title)
    above.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
    above.bar(
        edges[:-1][filled], accuracy, width=1 / CALIBRATION_BINS, align="edge", color=BLUE, alpha=0.8, edgecolor="white"
    )
    above.set(ylabel="accuracy", ylim=(0, 1.01))
    below.bar(edges[:-1], count, width=1 / CALIBRATION_BINS, align="edge", color=GREY)
    below.set(xlabel="confidence", ylabel="images", xlim=(0, 1))
    return figure


def mistakes_figure(images: Sequence[np.ndarray], captions: Sequence[str], title: str, columns: int = 6) -> Figure:
    """The most confident mistakes: uint8 images ``[H, W, 3]`` under their captions."""
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(1.7 * columns, 2.1 * rows + 0.5), layout="constrained")
    figure.suptitle(title)
    for place, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.set_axis_off()
        if place < len(images):
            axes.imshow(images[place], interpolation="nearest")
            axes.set_title(captions[place], fontsize=8, color=ORANGE)
    return figure


def _axes(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    return figure, axes


def _short(name: str, longest: int = 16) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
