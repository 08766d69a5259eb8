"""Charts of the page: small, one idea each, as legible on a phone as in print."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from tasks.evaluate.figures import AGAINST, BLUE, GREEN, ORANGE, PURPLE
from tasks.lettering import literal
from tasks.report.pictures import chart

SIZE = (4.4, 2.9)
"""Inches of 72 points: as wide as a phone's page, where its letters are as tall as the text's."""

STAGES = {"before": "before temperature", "served": "as served"}

INK, LINE = "#3c424b", "#e3e6ea"
LOOK: dict[Any, Any] = {
    "font.size": 9, "font.family": "sans-serif", "axes.edgecolor": LINE, "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": LINE, "grid.linewidth": 0.8, "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 8,
    "lines.linewidth": 1.8,
}  # fmt: skip


def curves_charts(curves: pd.DataFrame) -> list[str]:
    """How training went: the figure that it is judged by, and the loss, of each split, by epoch or by strength of the
    head."""
    against = next((name for name in AGAINST if name in curves and curves[name].notna().any()), None)
    figures = [name for name in ("accuracy", "average_precision", "r2", "loss") if any(_of(curves, name))]
    if against is None or len(curves) < 2 or not figures:
        return []
    return [_curves(curves, name, against) for name in figures]


def _curves(curves: pd.DataFrame, name: str, against: str) -> str:
    with mpl.rc_context(LOOK):
        figure, axes = _axes(AGAINST[against], name.replace("_", " "))
        for column, colour in zip(_of(curves, name), cycle((BLUE, ORANGE, GREEN)), strict=False):
            shown = curves[[against, column]].dropna()
            axes.plot(shown[against], shown[column], color=colour, label=column.partition("/")[0], marker=".")
        if against == "l2":
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name == "loss" and curves[_of(curves, name)].min().min() > 0:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.legend()
        return chart(figure)


def _of(curves: pd.DataFrame, figure: str) -> list[str]:
    return [name for name in curves.columns if name.endswith(f"/{figure}") and curves[name].notna().any()]


def reliability_chart(bins: pd.DataFrame) -> str:
    """Accuracy against confidence, before the temperature and as served; on the diagonal a model knows what it
    knows."""
    with mpl.rc_context(LOOK):
        figure, axes = _axes("confidence", "accuracy")
        axes.plot([0, 1], [0, 1], color=LINE, zorder=1)
        for stage, shown in bins.groupby("stage", sort=False):
            colour = BLUE if stage == "served" else ORANGE
            axes.plot(
                shown["confidence"],
                shown["accuracy"],
                color=colour,
                marker=".",
                label=STAGES.get(str(stage), str(stage)),
            )
            if stage == "served":
                axes.vlines(shown["confidence"], shown["accuracy_low"], shown["accuracy_high"], colour, linewidth=0.8)
        axes.set(xlim=(0, 1.01), ylim=(0, 1.02))
        axes.legend()
        return chart(figure)


def spread_chart(table: pd.DataFrame) -> str:
    """The share of images whose number lies within its interval, by the level of that; on the diagonal a model knows
    how far off it may be."""
    with mpl.rc_context(LOOK):
        figure, axes = _axes("level of the interval", "share of images within")
        axes.plot([0, 1], [0, 1], color=LINE, zorder=1)
        axes.plot(table["level"], table["coverage"], color=BLUE, marker=".")
        axes.vlines(table["level"], table["low"], table["high"], BLUE, linewidth=0.8)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        return chart(figure)


def risk_coverage_chart(curve: pd.DataFrame, threshold: float | None) -> str:
    """The share of wrong answers among those that are given, by how many are; the chosen threshold marked."""
    with mpl.rc_context(LOOK):
        figure, axes = _axes("share of images answered", "share of answers wrong")
        axes.plot(curve["coverage"], 1 - curve["accuracy"], color=BLUE)
        chosen = curve[curve["threshold"] >= threshold] if threshold is not None else curve[:0]
        if len(chosen):
            last = chosen.iloc[-1]
            axes.plot(last["coverage"], 1 - last["accuracy"], "o", color=ORANGE, label="chosen threshold")
            axes.legend()
        axes.set(xlim=(0, 1.01))
        axes.set_ylim(bottom=0)
        return chart(figure)


def robustness_chart(table: pd.DataFrame, of: str) -> str:
    """A figure by severity, a line for each corruption."""
    with mpl.rc_context(LOOK):
        figure, axes = _axes("severity", of.replace("_", " "), height=3.3)
        clean = table.loc[table["severity"] == 0, of]
        styles = cycle([(c, s) for s in ("-", "--") for c in (BLUE, ORANGE, GREEN, PURPLE)])
        for name, rows in table[table["severity"] > 0].groupby("corruption", sort=False):
            colour, style = next(styles)
            first = ([0], [clean.iloc[0]]) if len(clean) else ([], [])
            axes.plot(
                [*first[0], *rows["severity"]], [*first[1], *rows[of]], style, color=colour, marker=".",
                label=literal(str(name)),
            )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(0, None if of == "mae" else 1.02)
        axes.legend(ncols=2, handlelength=4)  # else a dashed handle looks like a solid one
        return chart(figure)


KINDS = {"head": BLUE, "tune": ORANGE, "final": GREEN}
"""Steps whose scores are on images that choices are made on, and their colours."""


def choice_chart(steps: pd.DataFrame) -> str | None:
    """What each step scored, by the seconds after which it was over."""
    steps = steps.assign(at=steps["took"].fillna(0).cumsum())
    shown = steps[(steps["state"] == "done") & steps["kind"].isin(KINDS)]
    if shown.empty:
        return None
    with mpl.rc_context(LOOK):
        figure, axes = _axes("seconds", "score on images of the choice")
        for kind, rows in shown.groupby("kind", sort=False):
            axes.plot(rows["at"], rows["score"], "o", color=KINDS[str(kind)], label=str(kind))
        axes.set(xlim=(0, 1.05 * shown["at"].max()), ylim=(None, min(1.01, shown["score"].max() + 0.05)))
        axes.legend()
        return chart(figure)


def versions_chart(figures: Mapping[str, tuple[float, float, float]], what: str) -> str:
    """A figure of each version, with its interval."""
    with mpl.rc_context(LOOK):
        figure, axes = _axes("version", what)
        values, low, high = np.array(list(figures.values())).T
        places = range(len(figures))
        axes.errorbar(places, values, [values - low, high - values], fmt="o", color=BLUE, capsize=3)
        axes.set_xticks(places, [literal(name) for name in figures])
        return chart(figure)


def _axes(across: str, up: str, height: float = SIZE[1]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(SIZE[0], height), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=across, ylabel=up)
    return figure, axes
