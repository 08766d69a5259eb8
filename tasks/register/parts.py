"""Parts of the images: on which a version is worse than the champion, and how far they are apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tasks.groups import group_numbers
from tasks.records import Comparison, Dataset
from tasks.register.gating import Evidence, Finding, unopposed
from tasks.target import Target
from tasks.wording import counted, figure_text

if TYPE_CHECKING:
    from tasks.evaluate.scores.intervals import Sample

JUDGED = {"class": ("accuracy", "accuracy", 1), "labels": ("average_precision_macro", "average precision", 1),
          "number": ("mae", "MAE", -1)}  # fmt: skip
"""Figures that further tasks are judged by, what they are called, and whether more is better (1) or less (-1)."""

FIGURES = ("champion", "candidate", "difference", "p")
"""Columns of a comparison's parts that are numbers, or empty where there is none."""

LEAST = 10
"""Images that a value of a column has at least to be looked at."""


def worse_parts(comparison: Comparison | None, kinds: Sequence[str], level: float) -> Finding:
    """On which parts of the split that decides the candidate is worse than the champion; where it has learned from that
    split, of the held-out one."""
    from tasks.evaluate.scores.paired import holm  # SciPy takes a second

    asked = f"no part by {', '.join(kinds)} worse, p {level:g}"
    if comparison is None:
        return unopposed(asked)
    split = next(filter(None, (comparison.judged_on, *comparison.images)), None)
    if split is None:
        return Finding(None, "no image that neither has learned from", asked, against=comparison.version)
    file, empty = comparison.report / f"{split}_slices.csv", {name: [""] for name in FIGURES}
    table = pd.read_csv(file, lineterminator="\n", keep_default_na=False, na_values=empty, dtype={"slice": str})
    table = table[table["kind"].isin(kinds)]
    if table.empty:
        told = f"{split} has no part by {', '.join(kinds)}: see evaluate.slices"
        return Finding(None, told, asked, against=comparison.version)
    table = table.assign(p_holm=holm(table["p"].astype(float).tolist()))
    # An error that is no number is no better than any.
    worse = table[(table["p_holm"] < level) & ~(table["difference"] >= 0)].sort_values("p_holm")
    if worse.empty:
        told = f"worse on none of {counted(len(table), 'part')} of {split}"
        return Finding(True, told, asked, "0", against=comparison.version)
    name = "mae" if f"{split}/mae" in comparison.metrics else "accuracy"
    what = "MAE " * (name == "mae")
    told = "; ".join(
        f"worse on {row['slice']}: {what}{figure_text(row['candidate'], name)} where it was "
        f"{figure_text(row['champion'], name)} "
        f"({row['images']:,} {split} images, p {row['p_holm']:.2g})"
        for row in worse.head(3).to_dict("records")
    )
    more = f"; and on {len(worse) - 3} more" if len(worse) > 3 else ""
    return Finding(False, told + more, asked, str(len(worse)), against=comparison.version)


def worse_tasks(comparison: Comparison | None, dataset: Dataset, level: float) -> Finding:
    """Which further tasks are told worse than by the champion, on the split that decides; where the candidate has
    learned from that split, on the held-out one."""
    from tasks.evaluate.scores.paired import holm

    asked = f"no further task worse, p {level:g}"
    if comparison is None:
        return unopposed(asked)
    if comparison.gone_tasks:
        told = f"tasks are told no more: {', '.join(comparison.gone_tasks)}"
        return Finding(False, told, asked, against=comparison.version)
    named = [target for target in dataset.further if target.name not in comparison.new_tasks]
    if not named:
        return Finding(True, "the champion tells none of the further tasks", asked, against=comparison.version)
    split = comparison.judged_on or dataset.report_on
    there = [target for target in named if f"{split}/{target.name}" in comparison.further]
    if not there:
        told = f"of no further task there are enough images of {split} with a label that neither has learned from"
        return Finding(None, told, asked, against=comparison.version)
    raised = holm([comparison.p_values[f"{split}/{target.name}"] for target in there])
    worse = [
        line
        for target, p in zip(there, raised, strict=True)
        if p < level and (line := _worse(target, split, comparison, p))
    ]
    worse += [
        f"{task} has lost classes: {', '.join(classes)}" for task, classes in sorted(comparison.gone_of_tasks.items())
    ]
    if not worse and len(there) < len(named):
        left = ", ".join(target.name for target in named if target not in there)
        told = f"cannot be compared on {split}: {left} (see the findings of the comparison)"
        return Finding(None, told, asked, against=comparison.version)
    if not worse:
        told = f"none of {counted(len(there), 'further task')} is worse on {split}"
        return Finding(True, told, asked, "0", against=comparison.version)
    return Finding(False, "; ".join(worse), asked, str(len(worse)), against=comparison.version)


def _worse(target: Target, split: str, comparison: Comparison, p: float) -> str | None:
    name, what, sign = JUDGED[target.kind]
    ours, theirs, difference, *_ = comparison.metrics[f"{split}/{target.name}/{name}"]
    if sign * difference >= 0:
        return None
    images = comparison.further[f"{split}/{target.name}"]
    now, before = (figure_text(each, name, target.unit) for each in (ours, theirs))
    return f"{target.name} is worse: {what} {now} where it was {before} ({images:,} {split} images, p {p:.2g})"


def widest_gap(evidence: Evidence, column: str, label: str | None, most: float) -> Finding:
    """How far the values of a column are apart on the held-out images.

    Two values are apart by more than ``most`` where the whole interval of the difference says so (Newcombe 1998,
    "Interval estimation for the difference between independent proportions", method 10), at a level raised for so many
    pairs (Bonferroni).

    Args:
        label: the class whose recall is looked at; None: the share of right answers.
    """
    split = evidence.dataset.report_on
    rows = _answered(evidence, split, label)
    named = rows[rows[column].notna()].reset_index(drop=True)
    values = [str(value) for value, count in named[column].value_counts().sort_index().items() if count >= LEAST]
    what = "accuracy" if label is None else f"recall of {label}"
    asked = f"{what} at most {most:g} apart by {column}"
    if len(values) < 2:
        told = (
            f"{split} has {len(values)} values of {column} with {LEAST} images or more that {what} could be read from"
        )
        return Finding(None, told, asked)
    alone = [] if column == "group" else [value for value in values if _sample(named[named[column] == value]).units < 2]
    values = [value for value in values if value not in alone]
    unsure = f"{column} {', '.join(alone)} {'is' if len(alone) == 1 else 'are'} of one group each, which tells nothing"
    if len(values) < 2:
        return Finding(None, unsure, asked)
    pairs = list(combinations(values, 2))
    counted = named.assign(group=None) if column == "group" else named  # of a group, each image is one
    shares = {value: _share(counted[named[column] == value], 1 - 0.05 / len(pairs)) for value in values}
    gaps = [_gap(shares, *pair) for pair in pairs]
    value, low, high, lower, upper = max(gaps, key=lambda gap: (gap[1] > most, gap[0]))
    told = (
        f"{what} on {split} is {shares[lower][0]:.4f} for {column} {lower} and {shares[upper][0]:.4f} for {upper}: "
        f"{value:.4f} apart [{low:.4f}, {high:.4f}]"
    )
    if alone and low <= most:
        return Finding(None, f"{told}; {unsure}", asked, f"{value:.4f}")
    return Finding(low <= most, told, asked, f"{value:.4f}")


def _answered(evidence: Evidence, split: str, label: str | None) -> pd.DataFrame:
    """The manifest's rows of a split with ``right``: of all images, or of those of a class."""
    manifest = evidence.dataset.read_manifest()
    rows = manifest[manifest["split"] == split].reset_index(drop=True)
    answers = pd.read_parquet(evidence.evaluation.report / f"{split}_predictions.parquet").set_index("path")
    given = [_labels(each) for each in answers.loc[rows["path"], "predicted"]]
    true = [_labels(each) for each in rows["label"]]
    pairs = zip(given, true, strict=True)
    rows = rows.assign(right=[ours == theirs if label is None else label in ours for ours, theirs in pairs])
    return rows if label is None else rows[[label in each for each in true]].reset_index(drop=True)


def _labels(label: object) -> set[str]:
    return {label} if isinstance(label, str) else set() if label is None else {*label}  # type: ignore[misc]


def _share(rows: pd.DataFrame, level: float) -> tuple[float, float, float]:
    return _sample(rows).share(rows["right"].to_numpy(bool), level)


def _sample(rows: pd.DataFrame) -> Sample:
    from tasks.evaluate.scores.intervals import Sample  # SciPy takes a second

    return Sample(len(rows), group_numbers(rows.reset_index(drop=True)))


def _gap(shares: dict[str, tuple[float, float, float]], one: str, other: str) -> tuple[float, float, float, str, str]:
    """Of two values the difference of their shares with its bounds, and which is the lower and the upper one."""
    lower, upper = sorted((one, other), key=lambda value: shares[value][0])
    (below, below_low, below_high), (above, above_low, above_high) = shares[lower], shares[upper]
    value = above - below
    low = value - float(np.hypot(above - above_low, below_high - below))
    high = value + float(np.hypot(above_high - above, below - below_low))
    return value, low, high, lower, upper
