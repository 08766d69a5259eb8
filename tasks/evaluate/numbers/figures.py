"""Pictures of predicted numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.evaluate.figures import BLUE, GREY, ORANGE, panels
from tasks.lettering import literal

DOTS = 1_000
"""Most images that are drawn as dots: more are counted in cells."""

PARTS = 10
"""Of the images by their number, of each of which the middle error is drawn."""


def scatter_figure(targets: np.ndarray, mean: np.ndarray, title: str, unit: str = "") -> Figure:
    """Predicted against true numbers, float ``[N]``; on the diagonal they are equal."""
    figure, [axes] = panels(6.0, 5.5, title)
    ends = [float(bound) for bound in (min(targets.min(), mean.min()), max(targets.max(), mean.max()))]
    room = 0.03 * (ends[1] - ends[0]) or 1.0
    limits = (ends[0] - room, ends[1] + room)
    _cloud(axes, targets, mean, (*limits, *limits))
    axes.plot(limits, limits, color=GREY, lw=0.9, ls=":")
    axes.set(xlim=limits, ylim=limits, xlabel=_in("true", unit), ylabel=_in("predicted", unit))
    return figure


def errors_figure(targets: np.ndarray, mean: np.ndarray, title: str, unit: str = "") -> Figure:
    """Predicted less true numbers against the true ones, float ``[N]``, with the middle and the middle four fifths of
    each tenth of the images: whether large numbers are told too small, or worse than others."""
    away = mean - targets
    figure, [axes] = panels(6.5, 4.5, title)
    _cloud(axes, targets, away, (targets.min(), targets.max(), away.min(), away.max()))
    axes.axhline(0, color=GREY, lw=0.9, ls=":")
    parts = np.array_split(np.argsort(targets, kind="stable"), min(PARTS, max(1, len(targets) // PARTS)))
    at = [float(np.median(targets[part])) for part in parts]
    low, middle, high = np.array([np.quantile(away[part], [0.1, 0.5, 0.9]) for part in parts]).T
    axes.fill_between(at, low, high, color=ORANGE, alpha=0.2, lw=0, label="four of five")
    axes.plot(at, middle, "o-", ms=3, color=ORANGE, label="middle of a tenth")
    axes.legend(frameon=False, fontsize=8)
    axes.set(xlabel=_in("true", unit), ylabel=_in("predicted less true", unit))
    return figure


def spread_figure(table: pd.DataFrame, title: str) -> Figure:
    """The share of images whose number lies within intervals of each level; on the diagonal the spread means what it
    says, below it is too small. For the table see `tasks.evaluate.scores.regression.NumberScores.spread`."""
    figure, [axes] = panels(5.0, 4.8, title)
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
    reach = [table["coverage"] - table["low"], table["high"] - table["coverage"]]
    axes.errorbar(table["level"], table["coverage"], reach, fmt="o-", ms=4, lw=1.2, capsize=2, color=BLUE)
    axes.set(xlabel="level of the interval", ylabel="share of images within", xlim=(0, 1), ylim=(0, 1.01))
    return figure


def _cloud(axes: Axes, across: np.ndarray, up: np.ndarray, extent: tuple[float, float, float, float]) -> None:
    wide, tall = extent[1] > extent[0], extent[3] > extent[2]
    if len(across) <= DOTS or not (wide and tall):
        axes.scatter(across, up, s=12, color=BLUE, alpha=0.5, lw=0)
    else:
        axes.hexbin(across, up, gridsize=45, extent=extent, cmap="Blues", bins="log", mincnt=1, linewidths=0.1)


def _in(what: str, unit: str) -> str:
    return f"{what} ({literal(unit)})" if unit else what
