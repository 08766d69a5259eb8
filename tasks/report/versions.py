"""Versions of one model side by side, each pair on the held-out images that both have answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from tasks.evaluate.scores.intervals import Sample
from tasks.evaluate.scores.paired import Difference, detectable, difference_of_shares, p_value
from tasks.report.charts import versions_chart
from tasks.report.page import render

FEWEST = 20
"""Images in common from which on a difference is worth a line."""


@dataclass(frozen=True)
class Version:
    """A registered version, as its run left it.

    Attributes:
        facts: what is to be told of it, by name: alias, when, data, backbone, method.
        metrics: ``split/name`` to (value, low, high).
        report_on: the split that was held out.
        predictions: of that split: hash, label, predicted; None where they are gone.
    """

    number: int
    facts: dict[str, str]
    metrics: dict[str, tuple[float, float, float]]
    report_on: str
    predictions: pd.DataFrame | None


@dataclass(frozen=True)
class Step:
    """From one version to the next, on the same images."""

    before: int
    after: int
    images: int
    difference: Difference | None = None
    gained: int = 0
    lost: int = 0
    p: float = float("nan")
    detectable: float = float("nan")


def versions_page(name: str, versions: Sequence[Version]) -> str:
    """A page that holds versions against each other, in the order given."""
    return render(
        "versions.html", name=name, versions=versions, steps=[step(*pair) for pair in pairwise(versions)],
        figures=_figures(versions), charts=_charts(versions),
    )  # fmt: skip


def step(before: Version, after: Version) -> Step:
    """How the answers of two versions differ on images that both held out and that have one label for both."""
    if before.predictions is None or after.predictions is None:
        return Step(before.number, after.number, 0)
    both = before.predictions.merge(after.predictions, on="hash", suffixes=("_before", "_after"))
    both = both[both["label_before"].map(_label) == both["label_after"].map(_label)]
    if len(both) < FEWEST:
        return Step(before.number, after.number, len(both))
    if pd.api.types.is_float_dtype(both["label_before"]):
        return _step_of_numbers(before.number, after.number, both)
    theirs, ours = (
        (both[f"predicted_{side}"].map(_label) == both[f"label_{side}"].map(_label)).to_numpy()
        for side in ("before", "after")
    )
    return Step(
        before.number, after.number, len(both), difference_of_shares(ours, theirs, None), int((ours & ~theirs).sum()),
        int((theirs & ~ours).sum()), p_value(ours, theirs, None), detectable(ours, theirs, None),
    )  # fmt: skip


def _step_of_numbers(before: int, after: int, both: pd.DataFrame) -> Step:
    """By how much less the absolute errors are."""
    theirs, ours = (
        (both[f"predicted_{side}"] - both[f"label_{side}"]).abs().to_numpy(np.float64) for side in ("before", "after")
    )
    gain = theirs - ours
    value, low, high = Sample(len(gain)).anywhere(float(gain.mean()), (gain - gain.mean()) / len(gain))
    return Step(
        before, after, len(both), Difference(float(ours.mean()), float(theirs.mean()), value, low, high),
        int((gain > 0).sum()), int((gain < 0).sum()), p_value(ours, theirs), detectable(ours, theirs),
    )  # fmt: skip


def _label(given: Any) -> Any:
    return given if isinstance(given, str | float) else tuple(sorted(given))


def _figures(versions: Sequence[Version]) -> dict[str, list[tuple[float, float, float] | None]]:
    names = dict.fromkeys(name for version in versions for name in version.metrics)
    return {name: [version.metrics.get(name) for version in versions] for name in names}


def _charts(versions: Sequence[Version]) -> list[tuple[str, str]]:
    charts = []
    for figure in ("accuracy", "average_precision_macro", "f1_macro", "mae", "r2"):
        known = {
            str(version.number): version.metrics[name]
            for version in versions
            if (name := f"{version.report_on}/{figure}") in version.metrics
        }
        if known and not np.isnan([bound for each in known.values() for bound in each]).any():
            charts.append((figure, versions_chart(known, figure.replace("_", " "))))
    return charts
