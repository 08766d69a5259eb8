"""Pictures of an evaluation, for the MLflow UI: matplotlib figures without global state."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter
from sklearn.metrics import precision_recall_curve, roc_curve

from tasks.evaluate.scores.calibration import CALIBRATION_BINS, calibration_error, gaps, reliability_table
from tasks.evaluate.scores.metrics import Scores, positives
from tasks.evaluate.scores.multi_label import MultiLabelScores
from tasks.lettering import literal, short

# Okabe & Ito: told apart by colour-blind readers
BLUE, ORANGE, GREY, GREEN, PURPLE = "#0072B2", "#D55E00", "#777777", "#009E73", "#CC79A7"
PALE = "#DDDDDD"
LEGIBLE = 25
"""Most classes whose cells and names can still be read."""
FEW = 10
CELL, PICTURE, CAPTION = (1.7, 2.1), 1.6, 24
"""Inches of an image with its caption, and of the longer side of the image alone; letters of a line of a caption."""
AGAINST = {"l2": "L2 regularisation", "k": "k", "epoch": "epoch", "step": "epoch"}
"""What curves are drawn against, the first that there is, and what it is called: steps are epochs where no column says
more."""


def confusion_figure(scores: Scores, classes: Sequence[str], title: str) -> Figure:
    """Confusion matrix, each row's colours scaled to the images of its class; counts where they can be read."""
    count = len(classes)
    rows = scores.confusion / np.maximum(scores.confusion.sum(1, keepdims=True), 1)
    side = float(np.clip(2.5 + 0.45 * count, 4.5, 11))
    names = [short(name) for name in classes] if count <= LEGIBLE else []
    figure, axes = _axes(side + 1, side, title)
    image = axes.imshow(rows, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046)
    axes.set(xlabel="predicted", ylabel="true")
    if names:
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
    labels: np.ndarray,
    probabilities: np.ndarray,
    scores: Scores | MultiLabelScores,
    classes: Sequence[str],
    title: str,
) -> Figure:
    """ROC curve of each class against the rest; with more than ten classes, of the five worst.

    Args:
        labels: int ``[N]`` or, where an image may have several, ones and zeros ``[N, C]``.
    """
    figure, [axes] = panels(6.5, 5.5, title)
    columns = positives(labels, len(classes))
    # One of two classes against the other is the same curve twice.
    one = len(classes) == 2 and labels.ndim == 1
    for c, area in _worst(scores.per_class["roc_auc"][1:] if one else scores.per_class["roc_auc"]).items():
        false_positive, true_positive, _ = roc_curve(columns[:, c], probabilities[:, c])
        axes.plot(false_positive, true_positive, lw=1.4, label=f"{short(classes[c])}  {area:.3f}")
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _legend(axes, "area under the curve" if len(classes) <= FEW else "the five smallest areas", "lower right")
    return figure


def precision_recall_figure(
    targets: np.ndarray, probabilities: np.ndarray, scores: MultiLabelScores, classes: Sequence[str], title: str
) -> Figure:
    """Precision against recall for each class; with more than ten classes, for the five worst.

    Args:
        targets: ones and zeros ``[N, C]``.
    """
    figure, [axes] = panels(6.5, 5.5, title)
    for c, value in _worst(scores.per_class["average_precision"]).items():
        precision, recall, _ = precision_recall_curve(targets[:, c], probabilities[:, c])
        axes.plot(recall, precision, lw=1.4, drawstyle="steps-post", label=f"{short(classes[c])}  {value:.3f}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _legend(axes, "average precision" if len(classes) <= FEW else "the five smallest average precisions", "lower left")
    return figure


def curves_figure(curves: pd.DataFrame, title: str) -> Figure:
    """How training went: loss and whatever else was measured of each split, against what `AGAINST` finds."""
    x = next(name for name in AGAINST if name in curves)
    columns = [str(column) for column in curves if "/" in str(column)]
    splits, whats = ([*dict.fromkeys(name.split("/", 1)[place] for name in columns)] for place in (0, 1))
    colours = dict(zip(splits, cycle((GREY, BLUE, ORANGE, GREEN, PURPLE)), strict=False))
    whats.sort(key=lambda what: what != "loss")
    figure, places = panels(max(6.0, 4.5 * len(whats)), 3.8, title, [1] * len(whats))
    for axes, what in zip(places, whats, strict=True):
        for column in (name for name in columns if name.split("/", 1)[1] == what):
            # Not everything is measured at every step.
            known = curves[[x, column]].dropna()
            axes.plot(known[x], known[column], "o-", ms=3, color=colours[column.split("/")[0]], label=column)
        axes.set(xlabel=AGAINST[x], ylabel=what.replace("_", " "))
        if x == "l2":
            axes.set_xscale("log")
            axes.invert_xaxis()
        elif x == "k":
            axes.set_xscale("log")
            axes.set_xticks(curves[x], curves[x])
            axes.minorticks_off()
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, fontsize=8)
        axes.grid(alpha=0.2)
    return figure


def rates_figure(rates: pd.DataFrame) -> Figure:
    """Which parts of a network learned how fast and when, the last block on top; frozen ones are pale.

    Args:
        rates: columns epoch (int), block (str, in order of depth) and rate (float, of the base rate; 0: frozen).
    """
    blocks = list(dict.fromkeys(rates["block"]))
    table = rates.pivot_table(index="block", columns="epoch", values="rate").reindex(blocks)
    values = table.to_numpy()
    learned = values[values > 0]
    wide = learned.size and learned.max() > 10 * learned.min()
    figure, axes = _axes(
        float(np.clip(4 + 0.3 * values.shape[1], 6, 14)),
        float(np.clip(1.5 + 0.26 * values.shape[0], 3, 11)),
        "learning rates that were chosen",
    )
    axes.set_facecolor(PALE)
    image = axes.imshow(
        np.ma.masked_less_equal(values, 0),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap="viridis",
        norm=LogNorm(learned.min(), learned.max()) if wide else Normalize(0, max(learned, default=1)),
    )
    figure.colorbar(image, ax=axes, label="times the base rate")
    for axis, names, most in ((axes.yaxis, blocks, 2 * LEGIBLE), (axes.xaxis, list(table.columns), LEGIBLE)):
        shown = range(0, len(names), -(-len(names) // most))
        axis.set_ticks(shown, [_ending(str(names[place])) for place in shown])
    axes.set(xlabel="epoch", ylabel="block")
    if (values == 0).any():
        figure.legend(handles=[Patch(color=PALE, label="frozen")], loc="outside lower left", frameon=False)
    return figure


def reliability_figure(
    labels: np.ndarray,
    probabilities: np.ndarray,
    title: str,
    before: np.ndarray | None = None,
    temperature: float = 1.0,
) -> Figure:
    """Accuracy against confidence (reliability diagram), with the number of images below.

    Where an image may have several labels (``labels`` are ones and zeros ``[N, C]``), each label of each image counts:
    how often a label is there against the probability that it was given.

    Args:
        before: the probabilities before logits were divided by ``temperature``.
    """
    several, bins = labels.ndim == 2, reliability_table(labels, probabilities)
    width = 1 / CALIBRATION_BINS
    figure, [above, below] = panels(5.5, 5.5, title, heights=[3, 1])
    above.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
    above.bar(bins["low"], bins["accuracy"], width, align="edge", color=BLUE, alpha=0.8, edgecolor="white")
    if before is not None:
        raw = reliability_table(labels, before)
        errors = [calibration_error(gaps(labels, of)) for of in (before, probabilities)]
        name = f"before, error {errors[0]:.3f}"
        above.plot(raw["confidence"], raw["accuracy"], "o-", color=ORANGE, ms=3, lw=1, label=name)
        served = f"served, error {errors[1]:.3f} (temperature {temperature:.2f})"
        above.containers[0].set_label(served)
        above.legend(frameon=False, fontsize=8, loc="upper left")
    above.set(ylabel="share that has the label" if several else "accuracy", ylim=(0, 1.01))
    below.bar(bins["low"], bins["count"], width, align="edge", color=GREY)
    below.set(xlabel="probability" if several else "confidence", ylabel="labels" if several else "images", xlim=(0, 1))
    if several:
        # Most labels are not there, and surely so: the others would not be seen beside them.
        below.set_yscale("log")
        below.set_ylim(bottom=0.5)
        below.yaxis.set_minor_formatter(NullFormatter())
    return figure


def mistakes_figure(images: Sequence[np.ndarray], captions: Sequence[str], title: str, columns: int = 6) -> Figure:
    """The most confident mistakes: uint8 images ``[H, W, 3]`` under their captions.

    They share one pair of axes, in inches: a pair for each image, and a layout that measures them all, takes ten times
    as long.
    """
    rows = max(1, -(-len(images) // columns))
    width, height = CELL[0] * columns, CELL[1] * rows + 0.4
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.text(width / 2, height - 0.1, literal(title), fontsize=12, ha="center", va="top")
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = place % columns * CELL[0] + CELL[0] / 2, height - 0.4 - place // columns * CELL[1]
        across, up = (side * PICTURE / max(image.shape[:2]) for side in (image.shape[1], image.shape[0]))
        below = top - CELL[1] + PICTURE
        lines = "\n".join(short(line, CAPTION) for line in caption.split("\n"))
        axes.text(left, below + 0.04, lines, fontsize=8, color=ORANGE, ha="center", va="bottom")
        axes.imshow(
            image, extent=(left - across / 2, left + across / 2, below - up, below), interpolation="nearest",
            aspect="auto",
        )  # fmt: skip
    axes.set(xlim=(0, width), ylim=(0, height))
    return figure


def panels(
    width: float, height: float, title: str, widths: Sequence[float] = (1,), heights: Sequence[float] = (1,),
    size: float = 11,
) -> tuple[Figure, list[Axes]]:  # fmt: skip
    """A figure in inches whose axes bear numbers: their room is known, and a layout that measures it takes as long as
    drawing everything does."""
    figure = Figure(figsize=(width, height))
    figure.suptitle(title, fontsize=size, y=1 - 0.08 / height, va="top")
    room = {
        "left": 0.72 / width, "right": 1 - 0.15 / width, "bottom": 0.5 / height, "top": 1 - 0.36 / height,
        "wspace": 0.75 * len(widths) / (width - 0.87), "hspace": 0.06,
    }  # fmt: skip
    rows, columns = len(heights), len(widths)
    axes = figure.subplots(
        rows, columns, sharex=rows > 1, squeeze=False, width_ratios=widths, height_ratios=heights, gridspec_kw=room
    )
    return figure, list(axes.flat)


def _axes(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    return figure, axes


def _worst(figures: pd.Series) -> dict[int, float]:
    """Classes by number and their figures: those that have one or, of more than ten, the five smallest."""
    ranked = figures.dropna().sort_values()
    worst = (ranked if len(figures) <= FEW else ranked[:5]).sort_index()
    return dict(zip(worst.index.tolist(), worst.tolist(), strict=True))


def _legend(axes: Axes, title: str, place: Literal["lower left", "lower right"]) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(title=title, fontsize=8, loc=place, frameon=False)


def _ending(name: str, longest: int = 28) -> str:
    """A name of a block, which differs from the others at its end."""
    return literal(name if len(name) <= longest else f"…{name[1 - longest :]}")
