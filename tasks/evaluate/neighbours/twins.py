"""Images that look alike and bear different labels.

One picture in two files, in another format, size or quality, cannot be of two classes. What is only alike by hash and
features may be: outlines of guitars and giraffes are. So of these an image is listed where a model does not rather
believe its own label.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from tasks.extract.look_alikes import read_look_alikes
from tasks.ingest.contradictions import SUSPECTS
from tasks.ingest.decode import decode
from tasks.ingest.relabel import label_text
from tasks.records import Dataset

SAME, SIDE = 0.97, 64
"""Correlation of two images' pixels from which on they are one picture, at so many pixels a side. Of PACS, pictures and
what is left of them at 96 pixels and JPEG quality 50 have 0.975 or more, guitars' and giraffes' like outlines 0.53 or
less."""

COMPARED = 2_000
"""Images whose pixels are held against those of their twins at most, the most similar first."""


def list_twins(rows: pd.DataFrame, doubtful: np.ndarray, look_alikes: Path | None, dataset: Dataset) -> pd.DataFrame:
    """Labels that may be wrong since an image of another label is the same or looks alike; the columns are `SUSPECTS`.

    Args:
        rows: of the manifest, ``N`` of them; doubtful: whether a model does not believe the label, bool ``[N]``.
        look_alikes: folder of ``look_alikes.csv``, where there is one.
    """
    if look_alikes is None:
        return pd.DataFrame(columns=SUSPECTS)
    twins = _twins(rows.assign(doubtful=doubtful), read_look_alikes(look_alikes))
    alike = _likeness(twins, dataset)
    same = alike >= SAME
    kinds = np.select([alike == 1, same], ["has the pixels of", "is nearly the same picture as"], "looks like")
    named = zip(kinds, twins["other"], twins["suggested"], strict=True)
    why = [f"{how} {path}, which is {label}" for how, path, label in named]
    listed = twins.assign(why=why, score=np.where(same, alike, twins["cosine"]))
    return listed.loc[same | twins["doubtful"].to_numpy(bool), SUSPECTS]


def _twins(rows: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Both images of each confirmed pair under different labels: path, hash, split, label and doubtful; other,
    other_hash and suggested, the label, of its twin; and cosine, the most similar first."""
    known = rows.assign(label=rows["label"].map(label_text)).set_index("path")[["hash", "split", "label", "doubtful"]]
    pairs = pairs[pairs["confirmed"] & pairs["first"].isin(known.index) & pairs["second"].isin(known.index)]
    sides = []
    for one, other in (("first", "second"), ("second", "first")):
        own, theirs = (known.loc[pairs[side]].rename_axis("path").reset_index() for side in (one, other))
        twin = {"other": theirs["path"], "other_hash": theirs["hash"], "suggested": theirs["label"]}
        sides.append(own.assign(**twin, cosine=pairs["cosine"].to_numpy()))
    both = pd.concat(sides)
    both = both[both["label"] != both["suggested"]]
    return both.sort_values("cosine", ascending=False, kind="stable", ignore_index=True)


def _likeness(twins: pd.DataFrame, dataset: Dataset) -> np.ndarray:
    """Correlation of an image's pixels with its twin's, float64 ``[N]``: 1 where they are the same, below it where they
    are not, 0 where nobody has looked."""
    found = np.zeros(len(twins))
    for place in range(min(len(twins), COMPARED)):
        one, other = (decode(dataset.image(twins[side][place]), dataset.limits) for side in ("hash", "other_hash"))
        same = one.size == other.size and one.tobytes() == other.tobytes()
        found[place] = 1.0 if same else min(_correlation(one, other), 0.9999)
    return found


def _correlation(one: Image.Image, other: Image.Image) -> float:
    pixels = np.stack([np.asarray(image.resize((SIDE, SIDE)), np.float64).ravel() for image in (one, other)])
    away = pixels - pixels.mean(1, keepdims=True)
    return float(away[0] @ away[1] / max(float(np.linalg.norm(away[0]) * np.linalg.norm(away[1])), 1e-12))
