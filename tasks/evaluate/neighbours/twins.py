"""Images that look alike and bear different labels.

One picture in two files, saved in another format or with other notes, cannot be of two classes. What is only alike may
be: outlines of guitars and giraffes are. So of these an image is listed where a model does not rather believe its own
label.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tasks.ingest.contradictions import SUSPECTS
from tasks.ingest.decode import decode
from tasks.ingest.relabel import label_text
from tasks.records import Dataset

SAME = 0.999
"""Cosine of the features of two images from which on their pixels may be the same."""

COMPARED = 2_000
"""Images whose pixels are held against those of their twins at most."""


def list_twins(rows: pd.DataFrame, doubtful: np.ndarray, look_alikes: Path | None, dataset: Dataset) -> pd.DataFrame:
    """Labels that may be wrong since an image of another label is the same or looks alike; the columns are `SUSPECTS`.

    Args:
        rows: of the manifest, ``N`` of them; doubtful: whether a model does not believe the label, bool ``[N]``.
        look_alikes: folder of ``look_alikes.csv``, where there is one.
    """
    if look_alikes is None:
        return pd.DataFrame(columns=SUSPECTS)
    twins = _twins(rows.assign(doubtful=doubtful), pd.read_csv(look_alikes / "look_alikes.csv"))
    same = _are_same(twins, dataset)
    named = zip(np.where(same, "has the pixels of", "looks like"), twins["other"], twins["suggested"], strict=True)
    why = [f"{how} {path}, which is {label}" for how, path, label in named]
    listed = twins.assign(why=why, score=np.where(same, 1.0, twins["cosine"]))
    return listed.loc[same | twins["doubtful"].to_numpy(bool), SUSPECTS]


def _twins(rows: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Both images of each confirmed pair under different labels: path, hash, split, label and doubtful; other,
    other_hash and suggested, the label, of its twin; bits and cosine, the most similar first."""
    known = rows.assign(label=rows["label"].map(label_text)).set_index("path")[["hash", "split", "label", "doubtful"]]
    pairs = pairs[pairs["confirmed"] & pairs["first"].isin(known.index) & pairs["second"].isin(known.index)]
    sides = []
    for one, other in (("first", "second"), ("second", "first")):
        own, theirs = (known.loc[pairs[side]].rename_axis("path").reset_index() for side in (one, other))
        twin = {"other": theirs["path"], "other_hash": theirs["hash"], "suggested": theirs["label"]}
        sides.append(own.assign(**twin, **{name: pairs[name].to_numpy() for name in ("bits", "cosine")}))
    both = pd.concat(sides)
    both = both[both["label"] != both["suggested"]]
    return both.sort_values("cosine", ascending=False, kind="stable", ignore_index=True)


def _are_same(twins: pd.DataFrame, dataset: Dataset) -> np.ndarray:
    """Whether the pixels of an image are those of its twin, bool ``[N]``."""
    same = np.zeros(len(twins), bool)
    likely = np.flatnonzero((twins["bits"] == 0) & (twins["cosine"] >= SAME))
    for place in likely[:COMPARED]:
        one, other = (decode(dataset.image(twins[side][place]), dataset.limits) for side in ("hash", "other_hash"))
        same[place] = one.size == other.size and one.tobytes() == other.tobytes()
    return same
