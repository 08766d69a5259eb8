"""Parts of a split, and whether a model is really worse on one than on the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import hypergeom, t, ttest_ind

from tasks.evaluate.scores.intervals import Sample, share_among
from tasks.evaluate.scores.paired import holm
from tasks.evaluate.slices.brightness import MEASURED, brightness_of
from tasks.records import Dataset

LEAST = 10
"""Images that a slice has at least."""

MANY = 20
"""Values of a column beyond which it is not parted by them."""

NAMED = 0.01
"""A slice is named where its p-value, raised for the number of slices, is below."""


@dataclass(frozen=True)
class Part:
    """A part of a split.

    Attributes:
        name: in words.
        kind: the column that it is by, or ``found``.
        chosen: bool ``[N]``.
        among: the images that it is compared with the rest of, bool ``[N]``; None for all.
        note: what has to be known of it.
    """

    name: str
    kind: str
    chosen: np.ndarray
    among: np.ndarray | None = None
    note: str = ""


def declared(rows: pd.DataFrame, dataset: Dataset, names: Sequence[str], seed: int = 0) -> list[Part]:
    """The parts of a split by what is known of its images.

    Args:
        rows: of the manifest.
        names: see `tasks.evaluate.config.EvaluateConfig.slices`.
    """
    found: list[Part] = []
    for name in names:
        if name in ("domain", "group"):
            found += _by_value(name, rows.get(name))
            continue
        if name == "brightness":
            measured = brightness_of([dataset.image(content) for content in rows["hash"]], dataset.limits, seed)
            note = f"of a sample of {MEASURED:,} images" if np.isnan(measured).any() else ""
            found += by_thirds(name, measured, ".2f", note)
        elif (values := _numbers(name, rows)) is not None:
            found += by_thirds(name, values, ".2f" if name == "shape" else ",.0f")
    return found


def _numbers(name: str, rows: pd.DataFrame) -> np.ndarray | None:
    if not {"width", "height", "size"} <= set(rows):
        return None
    width, height = rows["width"].to_numpy(np.float64), rows["height"].to_numpy(np.float64)
    return {"size": width * height, "shape": width / height, "bytes": rows["size"].to_numpy(np.float64)}[name]


def _by_value(name: str, column: pd.Series | None) -> Iterator[Part]:
    values = [] if column is None else sorted(column.dropna().unique())
    if column is None or len(values) > MANY:
        return
    for value in values:
        chosen = (column == value).to_numpy(bool)
        if LEAST <= chosen.sum() < len(chosen):
            yield Part(f"{name} {value}", name, chosen)


def by_thirds(name: str, values: np.ndarray, spelt: str, note: str = "") -> Iterator[Part]:
    """The lowest, middle and highest third of what is known; fewer where many are equal."""
    among = ~np.isnan(values)
    if not among.any():
        return
    low, high = np.quantile(values[among], [1 / 3, 2 / 3])
    unit = " pixels" if name == "size" else ""
    first, last = (format(edge, spelt) for edge in (low, high))
    for words, chosen in (
        (f"below {first}{unit}", values < low),
        (f"{first} to {last}{unit}", (values >= low) & (values < high)),
        (f"from {last}{unit} on", values >= high),
    ):
        if LEAST <= chosen.sum() < among.sum():
            yield Part(f"{name} {words}", name, chosen, among, note)


def slice_table(parts: Sequence[Part], right: np.ndarray, groups: np.ndarray | None = None) -> pd.DataFrame:
    """A row for each part, the worst first: slice, kind, images, accuracy with low and high, rest (accuracy of the
    rest), difference, p (one-sided, of being no worse), p_holm (raised for so many questions), note.

    Args:
        right: bool ``[N]``, whether each image's answer is right.
        groups: of each image int64 ``[N]``, where images come in groups.
    """
    columns = ["slice", "kind", "images", "accuracy", "low", "high", "rest", "difference", "p", "p_holm", "note"]
    rows = []
    for part in parts:
        rest = ~part.chosen if part.among is None else part.among & ~part.chosen
        accuracy, low, high = share_among(right, part.chosen, groups)
        rows.append({
            "slice": part.name, "kind": part.kind, "images": int(part.chosen.sum()), "accuracy": accuracy, "low": low,
            "high": high, "rest": float(right[rest].mean()), "difference": accuracy - float(right[rest].mean()),
            "p": worse(right, part.chosen, rest, groups), "note": part.note,
        })  # fmt: skip
    table = pd.DataFrame(rows, columns=columns)
    table["p_holm"] = holm(table["p"].tolist()) if rows else []
    return table.sort_values(["p", "difference"], kind="stable").reset_index(drop=True)


def worse(right: np.ndarray, chosen: np.ndarray, rest: np.ndarray, groups: np.ndarray | None = None) -> float:
    """How often as few of the ``chosen`` images would be right by chance if they were like the ``rest``: Fisher's exact
    test, one-sided. Where images come in groups, Student's of the groups' sums, with one degree of freedom less than
    there are groups among the chosen; of fewer than five, nothing can be said.

    Args:
        right: whether each is or, where images have numbers, how good each answer is: then without groups it is Welch's
            test (1947) of the means.
    """
    if groups is None and right.dtype != bool:
        return float(ttest_ind(right[chosen], right[rest], equal_var=False, alternative="less").pvalue)
    if groups is None:
        both = chosen | rest
        return float(hypergeom.cdf(right[chosen].sum(), both.sum(), right[both].sum(), chosen.sum()))
    units = len(np.unique(groups[chosen]))
    inside, outside = right[chosen].mean(), right[rest].mean()
    away = np.where(chosen, (right - inside) / chosen.sum(), 0) - np.where(rest, (right - outside) / rest.sum(), 0)
    spread = float((Sample(len(right), groups).within(away) ** 2).sum() * units / max(units - 1, 1)) ** 0.5
    if units < 5 or spread == 0:
        return 1.0
    return float(t.cdf((inside - outside) / spread, units - 1))


def named(table: pd.DataFrame) -> pd.DataFrame:
    """The slices on which a model is really worse."""
    return table[(table["p_holm"] < NAMED) & (table["difference"] < 0)]
