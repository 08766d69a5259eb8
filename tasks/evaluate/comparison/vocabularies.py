"""Two lists of classes: which both know, which are new, gone, or only called otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

SAME = 0.9
"""Share of the images of either name that have to have the other one for a class to have been renamed: of one that was
split or merged, people decide."""


@dataclass(frozen=True)
class Changes:
    """How our list of classes differs from theirs.

    Attributes:
        shared: classes that both know, by our names.
        new, gone: classes that only we, or only they, know.
        renamed: their name to ours.
    """

    shared: tuple[str, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]
    renamed: dict[str, str]


def compare_classes(
    ours: Sequence[str], theirs: Sequence[str], our_rows: pd.DataFrame, their_rows: pd.DataFrame | None
) -> Changes:
    """Compare two lists of classes.

    Args:
        our_rows, their_rows: the manifests, by which a renamed class is known: of the images that both datasets have,
            nearly all that had the old name have the new one, and the other way round.
    """
    new, gone = [name for name in ours if name not in theirs], [name for name in theirs if name not in ours]
    renamed = {} if their_rows is None or not (new and gone) else _renamed(new, gone, our_rows, their_rows)
    shared = tuple(name for name in ours if name in theirs or name in renamed.values())
    return Changes(
        shared, tuple(name for name in new if name not in shared), tuple(name for name in gone if name not in renamed),
        renamed,
    )  # fmt: skip


def aligned(probabilities: np.ndarray, classes: Sequence[str], columns: Sequence[str]) -> np.ndarray:
    """Probabilities ``[N, C]`` of ``classes`` as ``[N, columns]``: 0 for classes that are not known."""
    places = {name: place for place, name in enumerate(columns)}
    found = np.zeros((len(probabilities), len(columns)))
    known = [number for number, name in enumerate(classes) if name in places]
    found[:, [places[classes[number]] for number in known]] = probabilities[:, known]
    return found


def _renamed(
    new: Sequence[str], gone: Sequence[str], our_rows: pd.DataFrame, their_rows: pd.DataFrame
) -> dict[str, str]:
    common = set(our_rows["hash"]) & set(their_rows["hash"])
    ours, theirs = (_contents(rows, common) for rows in (our_rows, their_rows))
    found: dict[str, str] = {}
    for old in gone:
        before = theirs.get(old, set())
        for name in new:
            after = ours.get(name, set())
            if len(before & after) > SAME * len(before | after):
                found[old] = name
    return found


def _contents(rows: pd.DataFrame, among: set[str]) -> dict[str, set[str]]:
    """The contents of each label."""
    listed = rows.loc[rows["hash"].isin(among), ["label", "hash"]].explode("label").dropna()
    return {str(label): set(part) for label, part in listed.groupby("label")["hash"]}
