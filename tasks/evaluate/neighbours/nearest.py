"""The images of one set that are nearest to those of another, by their features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize

from tasks.extract.joined import JoinedStore, counted_alike
from tasks.extract.keys import keys_of
from tasks.records import Dataset, FeatureSet
from tasks.train.fusion.parts import parts_of
from tasks.train.heads import Head
from tasks.train.task import LEARNED

SKETCHED = 512
"""Wider features are hashed to so many numbers, which changes a squared distance by 6% (one standard deviation)."""

SAMPLE = 4_096
"""Images that say how each feature is distributed."""

READ = 1 << 26
"""Features that are read at a time: 256 MiB."""

TOGETHER = 1 << 24
"""Similarities that are held at a time: 64 MiB."""


@dataclass(frozen=True)
class Nearest:
    """The nearest images to each of N, the nearest first.

    Attributes:
        similarity: cosines of the standardised features float32 ``[N, k]``.
        index: places of these images, int64 ``[N, k]``.
    """

    similarity: np.ndarray
    index: np.ndarray


def directions(features: FeatureSet, hashes: Sequence[str], like: Sequence[str], unit: bool = True) -> torch.Tensor:
    """Features of images as unit vectors float32 ``[N, at most SKETCHED]``, a part of them in memory at a time.

    They are standardised, so that no feature and no layer drowns the others, and wide ones are hashed: each is added
    to, or taken from, one of `SKETCHED` sums, which keeps inner products (Weinberger et al. 2009, "Feature hashing for
    large scale multitask learning"), at the cost of reading them.

    Args:
        like: contents that the features are standardised by: those of the training images.
        unit: whether they are made as long as each other; else it stays how far each image is from the mean one.
    """
    store = JoinedStore(features)
    step = max(1, len(like) // SAMPLE)
    known = Head(features.width, 1, parts=parts_of(counted_alike(features)))
    known.standardise_like(torch.from_numpy(store.read(keys_of(like[::step]))))
    width = min(features.width, SKETCHED)
    result = torch.empty(len(hashes), width)
    rows = max(1, READ // features.width)
    for start in range(0, len(hashes), rows):
        part = known.standardised(torch.from_numpy(store.read(keys_of(hashes[start : start + rows]))))
        hashed = _hashed(part, width)
        result[start : start + rows] = normalize(hashed, dim=1) if unit else hashed
    return result


def _hashed(features: torch.Tensor, width: int) -> torch.Tensor:
    count = features.shape[1]
    if count <= width:
        return features
    generator = torch.Generator().manual_seed(0)
    # As many features in each sum, give or take one.
    places = torch.randperm(count, generator=generator) % width
    signs = torch.randint(2, (count,), generator=generator) * 2.0 - 1
    return features.new_zeros(len(features), width).index_add_(1, places, features * signs)


@torch.inference_mode()
def nearest(images: torch.Tensor, among: torch.Tensor, count: int) -> Nearest:
    """The ``count`` nearest of some unit vectors ``[M, d]``, or all where there are fewer, to each of ``[N, d]``."""
    count = min(count, len(among))
    parts = [(part @ among.T).topk(count) for part in images.split(max(1, TOGETHER // max(1, len(among))))]
    return Nearest(
        torch.cat([part.values for part in parts]).numpy(), torch.cat([part.indices for part in parts]).numpy()
    )


@dataclass(frozen=True)
class Learned:
    """The images that a candidate has learned from, where a backbone puts them.

    Attributes:
        rows: the manifest's, numbered from 0.
        directions: unit vectors float32 ``[N, d]``; see `directions`.
    """

    rows: pd.DataFrame
    features: FeatureSet
    directions: torch.Tensor

    @classmethod
    def of(cls, dataset: Dataset, features: FeatureSet) -> Learned:
        """All of train and tune."""
        manifest = dataset.read_manifest()
        rows = manifest[manifest["split"].isin(LEARNED)].reset_index(drop=True)
        hashes = rows["hash"].tolist()
        return cls(rows, features, directions(features, hashes, hashes))

    def place(self, hashes: Sequence[str]) -> torch.Tensor:
        """Where other images lie among them: unit vectors float32 ``[n, d]``."""
        return directions(self.features, hashes, self.rows["hash"].tolist())
