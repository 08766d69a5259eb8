"""Versions of one model side by side, each pair on the held-out images that both have answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from tasks.evaluate.scores.intervals import Sample
from tasks.evaluate.scores.paired import Difference, detectable, difference_of_shares, p_value
from tasks.groups import group_numbers
from tasks.report.charts import versions_chart
from tasks.report.page import render

FEWEST = 20
"""Images in common from which on a difference is worth a line."""


NUMBERED = ("same label", "place")
"""Columns by which rows of one image are told apart: its label, and which row of that label it is, from 0."""


@dataclass(frozen=True)
class Version:
    """A registered version, as its run left it.

    Attributes:
        facts: what is to be told of it, by name: alias, when, data, backbone, method.
        metrics: ``split/name`` to (value, low, high).
        report_on: the split that was held out.
        predictions: of that split: hash, label, predicted and group, which files of earlier headstarts lack; None where
            they are gone.
        grouped: whether images of that split come in groups.
    """

    number: int
    facts: dict[str, str]
    metrics: dict[str, tuple[float, float, float]]
    report_on: str
    predictions: pd.DataFrame | None
    grouped: bool = False

    @property
    def is_silent(self) -> bool:
        """Whether images come in groups that ``predictions`` do not tell."""
        return self.grouped and self.predictions is not None and "group" not in self.predictions


@dataclass(frozen=True)
class Step:
    """From one version to the next, on the same images.

    Attributes:
        groups: how many these images are of; None where they come in none, or in none that is known.
        figure: that the difference is of.
        is_narrow: whether they come in groups that neither version's file tells: then interval, p and ``detectable``
            are over images, and claim too much.
    """

    before: int
    after: int
    images: int
    difference: Difference | None = None
    gained: int = 0
    lost: int = 0
    p: float = float("nan")
    detectable: float = float("nan")
    groups: int | None = None
    is_narrow: bool = False
    figure: str = "accuracy"


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
    sides = _numbered(before.predictions), _numbered(after.predictions)
    both = sides[0].merge(sides[1], on=["hash", *NUMBERED], suffixes=("_before", "_after"))
    if len(both) < FEWEST:
        return Step(before.number, after.number, len(both))
    groups = _groups(both)
    of = _step_of_numbers if pd.api.types.is_float_dtype(both["label_before"]) else _step_of_labels
    found = of(before.number, after.number, both, groups)
    if groups is None:
        return replace(found, is_narrow=before.is_silent or after.is_silent)
    return replace(found, groups=int(groups.max()) + 1)


def _step_of_labels(before: int, after: int, both: pd.DataFrame, groups: np.ndarray | None) -> Step:
    """By how much larger the share of right answers is."""
    theirs, ours = (
        (both[f"predicted_{side}"].map(_label) == both[f"label_{side}"].map(_label)).to_numpy()
        for side in ("before", "after")
    )
    return Step(
        before, after, len(both), difference_of_shares(ours, theirs, groups), int((ours & ~theirs).sum()),
        int((theirs & ~ours).sum()), p_value(ours, theirs, groups), detectable(ours, theirs, groups),
    )  # fmt: skip


def _step_of_numbers(before: int, after: int, both: pd.DataFrame, groups: np.ndarray | None) -> Step:
    """By how much less the absolute errors are."""
    theirs, ours = (
        (both[f"predicted_{side}"] - both[f"label_{side}"]).abs().to_numpy(np.float64) for side in ("before", "after")
    )
    gain = theirs - ours
    value, low, high = Sample(len(gain), groups).anywhere(float(gain.mean()), (gain - gain.mean()) / len(gain))
    return Step(
        before, after, len(both), Difference(float(ours.mean()), float(theirs.mean()), value, low, high),
        int((gain > 0).sum()), int((gain < 0).sum()), p_value(ours, theirs, groups),
        detectable(ours, theirs, groups), figure="mae",
    )  # fmt: skip


def _groups(both: pd.DataFrame) -> np.ndarray | None:
    """The group of each image by the later version's data, or where this has none by the earlier one's."""
    told = [both[name] for name in ("group", "group_after", "group_before") if name in both]
    if not told:
        return None
    named = told[0].where(told[0].notna(), told[-1])
    return group_numbers(both[["hash"]].assign(group=named))


def _numbered(predictions: pd.DataFrame) -> pd.DataFrame:
    """The same with `NUMBERED`: an image that stands in the data several times under one label meets each of its like
    in another version's once."""
    same = predictions["label"].map(_label).astype(object)
    place = predictions.assign(same=same).groupby(["hash", "same"], dropna=False).cumcount()
    return predictions.assign(**dict(zip(NUMBERED, (same, place), strict=True)))


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
