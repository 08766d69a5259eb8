"""A sample of the training images, as a dataset of its own."""

from __future__ import annotations

import numpy as np

from tasks.errors import ConfigurationError, DataError
from tasks.fingerprint import fingerprint
from tasks.records import Dataset
from tasks.target import Target
from tasks.workspace import Workspace, write_whole

EACH = 5
"""Images of a class at least, where it has as many: of more classes than that leaves room for, some are drawn."""


def draw_sample(dataset: Dataset, count: int, workspace: Workspace, seed: int = 0) -> Dataset:
    """At most ``count`` of the labelled images that may be learned from, of each class as many as there are of it or as
    of any other; the rest of the dataset is out of reach.

    Raises:
        ConfigurationError: the leading task is a number.
        DataError: there are fewer than two classes with three images or, where an image may have several labels, no
            label that three images have and three have not.
    """
    check_ranked(dataset.target)
    manifest = dataset.read_manifest()
    rows = manifest[manifest["split"].isin(("train", "tune"))]
    random = np.random.default_rng(seed)
    rows = rows.iloc[random.permutation(len(rows))].reset_index(drop=True)
    _check(rows["label"].explode().value_counts().to_numpy(), len(rows), dataset.multi_label)
    if not dataset.multi_label:
        classes = rows["label"].unique()[: max(2, count // EACH)]
        rows = rows[rows["label"].isin(classes)].reset_index(drop=True)
    # With several labels an image stands with each of them, and without any with its like.
    labels = rows["label"].explode()
    places = labels.groupby(labels, dropna=False).cumcount()
    # The first of every class, then the second of every class...
    first = places.groupby(level=0).min()
    chosen = rows.iloc[np.argsort(first.to_numpy(), kind="stable")[:count]].sort_values("path")
    chosen = chosen.assign(split="train")
    name = fingerprint(dataset.fingerprint, "sample", count, seed)
    path = workspace.cache / "samples" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, chosen.to_parquet())
    return dataset.model_copy(update={"fingerprint": name, "manifest": path, "counts": {"train": len(chosen)}})


def telling(targets: np.ndarray) -> np.ndarray:
    """Targets as scores take them, without the classes that tell no images apart: int64 ``[N]`` from 0, without gaps
    or, of zeros and ones ``[N, C]``, bool for the columns that have both."""
    if targets.ndim == 2:
        return targets[:, targets.any(0) & ~targets.all(0)] > 0
    return np.unique(targets, return_inverse=True)[1].astype(np.int64)


def check_ranked(target: Target) -> None:
    """Whether backbones can be ranked for a task.

    Raises:
        ConfigurationError: it is a number.
    """
    if target.kind == "number":
        raise ConfigurationError(
            f"backbones are ranked by how well they tell classes, and {target.name} is a number: name a column of "
            "classes in ingest.source.label, or compare runs of the backbones"
        )


def _check(counts: np.ndarray, images: int, several: bool) -> None:
    """Whether there is something to tell apart, by the images of each label."""
    if several and not ((counts >= 3) & (images - counts >= 3)).any():
        raise DataError("a ranking takes a label that three images to learn from have, and three have not")
    if not several and (counts >= 3).sum() < 2:
        raise DataError("a ranking takes two classes or more, with three images to learn from each")
