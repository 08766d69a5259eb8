"""Backbones held against each other on one sample, and how sure their order is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tasks.evaluate.figures import BLUE, GREY
from tasks.evaluate.scores.intervals import Sample
from tasks.evaluate.transferability.scores import h_score, log_me, n_leep, nearest_hits, probe_hits
from tasks.lettering import literal

RESAMPLES = 2_000


@dataclass(frozen=True)
class Rated:
    """What a backbone's features scored.

    Attributes:
        name: of the backbone, and its layers where these were chosen.
        width: features of an image.
        milliseconds: from an image's file to its features, on this machine.
        flops, parameters: of one image, and of the network; 0 where they are not known.
        hits: which images a linear probe labels right, bool ``[N]``.
    """

    name: str
    width: int
    milliseconds: float
    flops: int
    parameters: int
    log_me: float
    h_score: float
    n_leep: float
    neighbours: float
    hits: np.ndarray = field(repr=False)


def rate(
    name: str, features: np.ndarray, labels: np.ndarray, milliseconds: float, flops: int = 0, parameters: int = 0
) -> Rated:
    """Score a backbone's features, float ``[N, width]``, against labels, int64 ``[N]`` from 0."""
    return Rated(
        name, features.shape[1], milliseconds, flops, parameters, log_me(features, labels), h_score(features, labels),
        n_leep(features, labels), float(nearest_hits(features, labels).mean()), probe_hits(features, labels),
    )  # fmt: skip


def ranking(rated: Sequence[Rated], groups: np.ndarray | None = None, seed: int = 0) -> pd.DataFrame:
    """A row for each backbone, the best first: by the linear probe, which is closest to what a run will do.

    Columns: backbone, probe, probe_low, probe_high (95% interval, over images or groups), best_rank, worst_rank (in 95%
    of resamples of the images, the same for all), ties (whether it may be as good as the first: its best rank is 1),
    log_me, h_score, n_leep, neighbours, width, ms, gflops, mb (fp32), pareto (whether none is both better and faster).

    Args:
        groups: int64 ``[N]``, whose images are drawn together.
    """
    hits = np.stack([each.hits for each in rated])
    best, worst = rank_intervals(hits, groups, seed)
    sample = Sample(hits.shape[1], groups, seed)
    rows = []
    for place, each in enumerate(rated):
        value, low, high = sample.share(each.hits)
        rows.append(
            {
                "backbone": each.name, "probe": value, "probe_low": low, "probe_high": high, "best_rank": best[place],
                "worst_rank": worst[place], "ties": best[place] == 1, "log_me": each.log_me, "h_score": each.h_score,
                "n_leep": each.n_leep, "neighbours": each.neighbours, "width": each.width, "ms": each.milliseconds,
                "gflops": each.flops / 1e9, "mb": 4 * each.parameters / 1e6,
            }
        )  # fmt: skip
    table = pd.DataFrame(rows)
    better, faster = (table[of].to_numpy() for of in ("probe", "ms"))
    beaten = (better > better[:, None]) & (faster < faster[:, None])
    table["pareto"] = np.asarray(~beaten.any(1))
    return table.sort_values(["probe", "ms"], ascending=[False, True], ignore_index=True)


def rank_intervals(hits: np.ndarray, groups: np.ndarray | None = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The best and the worst rank of each row in 95% of the resamples of the columns, from 1; equals share the better.

    Args:
        hits: bool ``[B, N]``.
        groups: int64 ``[N]``, whose images are drawn together.
    """
    units = np.arange(hits.shape[1]) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(units.max()) + 1
    within = np.stack([np.bincount(units, weights=row, minlength=count) for row in hits])
    sizes = np.bincount(units, minlength=count)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    shares = (draws @ within.T) / (draws @ sizes)[:, None]
    ranks = 1 + (shares[:, None, :] > shares[:, :, None] + 1e-12).sum(2)
    low, high = np.percentile(ranks, [2.5, 97.5], axis=0, method="inverted_cdf")
    return low.astype(int), high.astype(int)


def ranking_figure(table: pd.DataFrame, title: str) -> Figure:
    """Score against cost, with intervals; those that none beats in both are named in bold, along a line."""
    figure = Figure((7.5, 5), layout="constrained", dpi=110)
    axes = figure.subplots()
    front = table[table["pareto"]].sort_values("ms")
    axes.plot(front["ms"], front["probe"], color=BLUE, linewidth=1, alpha=0.5, drawstyle="steps-post")
    for row in table.to_dict("records"):
        colour, place = BLUE if row["pareto"] else GREY, (row["ms"], row["probe"])
        bars = [[row["probe"] - row["probe_low"]], [row["probe_high"] - row["probe"]]]
        axes.errorbar(*place, yerr=bars, fmt="o", color=colour, markersize=5, linewidth=1, capsize=2)
        axes.annotate(
            literal(row["backbone"]), place, xytext=(6, 4), textcoords="offset points", fontsize=8,
            color=colour, fontweight="bold" if row["pareto"] else "normal",
        )  # fmt: skip
    axes.set(xscale="log", xlabel="milliseconds an image, here", ylabel="accuracy of a linear probe, left-out images")
    axes.margins(x=0.25)
    axes.set_title(literal(title), loc="left", fontsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
