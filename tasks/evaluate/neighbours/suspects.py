"""Labels that are likely wrong, for a person to look at.

After confident learning (Northcutt, Jiang & Chuang 2021, "Confident learning: estimating uncertainty in dataset
labels"): what counts is the probability that a model gives to an image's label without having learned from it. Their
rule prunes as many images as the noise is estimated to be, which a weak backbone takes for a quarter of a clean set.
Here an image is listed where another label is so many times as likely as its own, which keeps the list short enough
to be read (benchmarks/RESULTS.md has both on planted errors).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.evaluate.neighbours.held_out import held_out_probabilities
from tasks.evaluate.neighbours.nearest import directions
from tasks.evaluate.neighbours.twins import list_twins
from tasks.evaluate.numbers.suspects import doubt_numbers, noted_numbers, suspect_numbers
from tasks.groups import group_numbers
from tasks.ingest.contradictions import SUSPECTS
from tasks.ingest.relabel import label_text
from tasks.model.told import REACH
from tasks.records import Dataset, FeatureSet
from tasks.train.targets import indicators
from tasks.train.task import targets_of

ODDS = 50.0
"""How many times as likely as the given label another one has to be."""

MOST = 500
"""Suspects that are listed."""

FEWEST = 50
"""With fewer labelled images there is too little to learn from."""

NOTED, DEVIATIONS = 0.01, 3.0
"""Suspects are worth a line from this share of the images on, if they are so many standard deviations more than a
calibrated model meets by chance."""


ByModel = tuple[pd.DataFrame, np.ndarray, list[str]]
"""What a model says: suspects, which labels it believes, bool ``[N]``, and a line where there are many suspects."""


@dataclass(frozen=True)
class Doubts:
    """Which labels are doubted, of N images and C classes.

    Attributes:
        wrong: probability that a label is wrong, of it and the likeliest other one, float64 ``[N]``.
        suggested: zeros and ones bool ``[N, C]``, the labels as they would be.
        doubted: bool ``[N]``; expected: how many would be if the probabilities were right and no label wrong.
    """

    wrong: np.ndarray
    suggested: np.ndarray
    doubted: np.ndarray
    expected: float

    @property
    def is_noteworthy(self) -> bool:
        """Whether there are clearly more than chance makes."""
        count = int(self.doubted.sum())
        return count >= NOTED * len(self.doubted) and count > self.expected + DEVIATIONS * self.expected**0.5


def doubt(there: np.ndarray, probabilities: np.ndarray, several: bool) -> Doubts:
    """Which labels are doubted.

    Args:
        there: the labels bool ``[N, C]``.
        probabilities: float ``[N, C]``, each row by a model that has not learned from the image; NaN where it knows
            nothing of a class.
        several: whether an image may have several labels; each of them is then doubted by itself.
    """
    known = ~np.isnan(probabilities)
    likely = np.where(known, probabilities, 0.0).astype(np.float64)
    return _each(there, likely, known) if several else _one(there, likely, known)


def _one(there: np.ndarray, likely: np.ndarray, known: np.ndarray) -> Doubts:
    own = (likely * there).sum(1)
    others = np.where(there, 0.0, likely)
    best = others.argmax(1)
    wrong = _share(others.max(1), own)
    doubted = (wrong >= ODDS / (ODDS + 1)) & (there & known).any(1)
    rare = known & (likely * ODDS <= likely.max(1, keepdims=True))
    suggested = np.eye(there.shape[1], dtype=bool)[best]
    return Doubts(wrong, np.where(doubted[:, None], suggested, there), doubted, float(likely[rare].sum()))


def _each(there: np.ndarray, likely: np.ndarray, known: np.ndarray) -> Doubts:
    wrong = np.where(known, np.where(there, 1 - likely, likely), 0.0)
    sure = ODDS / (ODDS + 1)
    least = np.where(known, np.minimum(likely, 1 - likely), 0.0)
    none = np.prod(np.where(least <= 1 - sure, 1 - least, 1.0), axis=1)  # of the image's labels is doubted
    doubted = wrong >= sure
    return Doubts(wrong.max(1), there ^ doubted, np.asarray(doubted.any(1)), float((1 - none).sum()))


def _share(best: np.ndarray, own: np.ndarray) -> np.ndarray:
    both = best + own
    return np.divide(best, both, out=np.zeros_like(best), where=both > 0)


def report_suspects(
    dataset: Dataset, features: FeatureSet, look_alikes: Path | None, seed: int, folder: Path
) -> tuple[int, list[str]]:
    """Write ``suspects.csv``, the surest first; see `tasks.records.Evaluation.report` for the columns.

    Returns:
        How many labels are doubted, and a line where they are more than chance makes.

    Args:
        features: of all images, by the backbone as it was before training.
        look_alikes: folder of ``look_alikes.csv``, where there is one.
    """
    manifest = dataset.read_manifest()
    rows = manifest[~manifest["split"].isin(["pool", "partial"])].reset_index(drop=True)
    by_model = _numbers_by_model if dataset.target.kind == "number" else _by_model
    found, believed, noted = by_model(rows, dataset, features, seed)
    alike = list_twins(rows, ~believed, look_alikes, dataset)
    table = pd.concat([alike, found], ignore_index=True) if len(alike) else found
    table = table.sort_values("score", ascending=False, kind="stable").drop_duplicates("path")
    if len(table):
        table.head(MOST).to_csv(folder / "suspects.csv", index=False, float_format="%.4f")
    return len(table), noted


def _nothing(rows: pd.DataFrame) -> ByModel:
    return pd.DataFrame(columns=SUSPECTS), np.zeros(len(rows), bool), []


def _numbers_by_model(rows: pd.DataFrame, dataset: Dataset, features: FeatureSet, seed: int) -> ByModel:
    """As `_by_model`; a number is believed that lies where nine of ten do."""
    if len(rows) < FEWEST:
        return _nothing(rows)
    hashes = rows["hash"].tolist()
    known = directions(features, hashes, hashes, unit=False)  # a number may lie in how strong features are
    doubts = doubt_numbers(known, targets_of(dataset, rows), group_numbers(rows), seed)
    if doubts is None:
        return _nothing(rows)
    return suspect_numbers(rows, doubts), np.abs(doubts.away) <= REACH, noted_numbers(doubts)


def _by_model(rows: pd.DataFrame, dataset: Dataset, features: FeatureSet, seed: int) -> ByModel:
    """Suspects, which labels are likelier than any other, bool ``[N]``, and a line if there are many suspects."""
    if len(rows) < FEWEST:
        return _nothing(rows)
    hashes, targets = rows["hash"].tolist(), targets_of(dataset, rows)
    known = directions(features, hashes, hashes)
    known *= known.shape[1] ** 0.5
    classes = len(dataset.classes)
    probabilities = held_out_probabilities(known, targets, classes, group_numbers(rows), seed)
    if probabilities is None:
        return _nothing(rows)
    there = indicators(targets, classes).numpy() > 0
    doubts = doubt(there, probabilities, dataset.multi_label)
    return _table(rows, there, probabilities, doubts, dataset), doubts.wrong < 0.5, _noted(doubts)


def _table(
    rows: pd.DataFrame, there: np.ndarray, probabilities: np.ndarray, doubts: Doubts, dataset: Dataset
) -> pd.DataFrame:
    places = np.flatnonzero(doubts.doubted)
    names = np.array(dataset.classes, object)
    lines = []
    for row in places:
        changed = np.flatnonzero(there[row] ^ doubts.suggested[row])
        order = changed[np.argsort(-probabilities[row, changed], kind="stable")]
        told = ", ".join(f"{names[place]} {probabilities[row, place]:.2g}" for place in order)
        suggested = names[doubts.suggested[row]].tolist()
        lines.append((
            label_text(suggested if dataset.multi_label else suggested[0]),
            f"{told} by a model that has not learned from it",
        ))  # fmt: skip
    table = rows.iloc[places][["path", "hash", "split"]].reset_index(drop=True)
    table["label"] = [label_text(label) for label in rows["label"].iloc[places]]
    table[["suggested", "why"]] = pd.DataFrame(lines, columns=["suggested", "why"], dtype=object)
    return table.assign(score=doubts.wrong[places])[SUSPECTS]


def _noted(doubts: Doubts) -> list[str]:
    if not doubts.is_noteworthy:
        return []
    return [
        f"{doubts.doubted.sum():,} of {len(doubts.doubted):,} labels may be wrong: another one is at least "
        f"{ODDS:.0f} times as likely, where chance makes {doubts.expected:,.0f}; `headstart data review` lists them"
    ]
