"""Backbones held against each other on one sample, and how sure their order is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tasks.errors import DataError
from tasks.evaluate.figures import BLUE, GREY
from tasks.evaluate.scores.intervals import Sample
from tasks.evaluate.scores.ranking import Linear
from tasks.evaluate.transferability.left_out import neighbours, probe
from tasks.evaluate.transferability.scores import Directions, h_score, log_me, n_leep
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
        merit: what `probe` and `neighbours` are: accuracy or, with several labels an image, average precision.
        probe: of a linear probe on images that it has not learned from.
        n_leep: NaN with several labels an image, for which it is not defined.
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
    merit: str
    probe: Linear = field(repr=False)


def rate(
    name: str, features: np.ndarray, targets: np.ndarray, milliseconds: float, flops: int = 0, parameters: int = 0,
    groups: np.ndarray | None = None,
) -> Rated:  # fmt: skip
    """Score a backbone's features, float ``[N, width]``.

    Args:
        targets: int64 ``[N]`` from 0 or, where an image may have several labels, bool ``[N, C]``, none of them of all
            images or of none.
        groups: int64 ``[N]``, none of whose images tells of another one's labels.

    Raises:
        DataError: the features are not finite, or the same for all images.
    """
    if not np.isfinite(features).all() or not np.ptp(features, axis=0).any():
        what = "the same features for all images" if np.isfinite(features).all() else "features that are no numbers"
        raise DataError(f"{name} gives {what}: look at its weights and its layer")
    several, found = targets.ndim == 2, Directions.around(features)
    return Rated(
        name, features.shape[1], milliseconds, flops, parameters, log_me(features, targets), h_score(found, targets),
        float("nan") if several else n_leep(found, targets), neighbours(features, targets, groups),
        "average precision" if several else "accuracy", probe(features, targets, groups),
    )  # fmt: skip


def ranking(rated: Sequence[Rated], groups: np.ndarray | None = None, seed: int = 0) -> pd.DataFrame:
    """A row for each backbone, the best first: by the linear probe, which is closest to what a run will do.

    Columns: backbone, probe, probe_low, probe_high (95% interval, over images or groups), best_rank, worst_rank (in 95%
    of resamples of the images, the same for all), ties (whether it may be as good as the first: its best rank is 1),
    log_me, h_score, n_leep, neighbours, merit (what probe and neighbours are), width, ms, gflops, mb (fp32), pareto
    (whether none is both better and faster).

    Args:
        groups: int64 ``[N]``, whose images are drawn together.
    """
    figures = [each.probe for each in rated]
    best, worst = rank_intervals(figures, groups, seed)
    sample = Sample(len(figures[0].influence), groups)
    rows = []
    for place, each in enumerate(rated):
        value, low, high = sample.linear(each.probe)
        rows.append(
            {
                "backbone": each.name, "probe": value, "probe_low": low, "probe_high": high, "best_rank": best[place],
                "worst_rank": worst[place], "ties": best[place] == 1, "log_me": each.log_me, "h_score": each.h_score,
                "n_leep": each.n_leep, "neighbours": each.neighbours, "merit": each.merit, "width": each.width,
                "ms": each.milliseconds, "gflops": each.flops / 1e9, "mb": 4 * each.parameters / 1e6,
            }
        )  # fmt: skip
    table = pd.DataFrame(rows)
    better, faster = (table[of].to_numpy() for of in ("probe", "ms"))
    beaten = (better > better[:, None]) & (faster < faster[:, None])
    table["pareto"] = np.asarray(~beaten.any(1))
    return table.sort_values(["probe", "ms"], ascending=[False, True], ignore_index=True)


def rank_intervals(
    figures: Sequence[Linear], groups: np.ndarray | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The best and the worst rank of each figure in 95% of the resamples of the images, the same for all, from 1;
    equals share the better. What a figure is in a resample is told by its derivatives.

    Args:
        groups: int64 ``[N]``, whose images are drawn together.
    """
    values = np.array([figure.value for figure in figures])
    sample = Sample(len(figures[0].influence), groups, seed)
    within = sample.within(np.stack([figure.influence for figure in figures], 1))
    drawn = values + np.concatenate([part @ within for part in sample.draws(RESAMPLES, np.ones(sample.units))])
    ranks = 1 + (drawn[:, None, :] > drawn[:, :, None] + 1e-12).sum(2)
    low, high = np.percentile(ranks, [2.5, 97.5], axis=0, method="inverted_cdf")
    return low.astype(int), high.astype(int)


def ranking_figure(table: pd.DataFrame, title: str) -> Figure:
    """Score against cost, with intervals; those that none beats in both are named in bold, along a line."""
    figure = Figure((7.5, 5), layout="constrained", dpi=110)
    axes, merit = figure.subplots(), table["merit"].iloc[0]
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
    axes.set(xscale="log", xlabel="milliseconds an image, here", ylabel=f"{merit} of a linear probe, left-out images")
    axes.margins(x=0.25)
    axes.set_title(literal(title), loc="left", fontsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
