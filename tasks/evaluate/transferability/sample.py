"""A sample of the training images, as a dataset of its own."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tasks.errors import DataError
from tasks.fingerprint import fingerprint
from tasks.records import Dataset
from tasks.workspace import Workspace, write_whole


def draw_sample(dataset: Dataset, count: int, workspace: Workspace, seed: int = 0) -> Dataset:
    """At most ``count`` of the labelled images that may be learned from, of each class as many as there are of it or as
    of any other; the rest of the dataset is out of reach.

    Raises:
        DataError: an image may have several labels, or there are fewer than two classes with three images.
    """
    if dataset.multi_label:
        raise DataError("backbones are ranked by the classes of images, and here an image may have several labels")
    manifest = dataset.read_manifest()
    rows = manifest[manifest["split"].isin(("train", "tune"))]
    random = np.random.default_rng(seed)
    rows = rows.iloc[random.permutation(len(rows))]
    places = rows.groupby("label").cumcount()
    if (places.groupby(rows["label"]).size() >= 3).sum() < 2:
        raise DataError("a ranking takes two classes or more, with three images to learn from each")
    # The first of every class, then the second of every class...
    chosen = rows.iloc[np.argsort(places.to_numpy(), kind="stable")[:count]].sort_values("path")
    chosen = chosen.assign(split="train")
    name = fingerprint(dataset.fingerprint, "sample", count, seed)
    path = workspace.cache / "samples" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, chosen.to_parquet())
    return dataset.model_copy(update={"fingerprint": name, "manifest": path, "counts": {"train": len(chosen)}})


def classes_of(rows: pd.DataFrame) -> np.ndarray:
    """Classes of rows as int64 from 0, those that have images only."""
    return np.asarray(pd.factorize(rows["label"], sort=True)[0], np.int64)
