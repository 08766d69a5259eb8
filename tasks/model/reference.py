"""What a model is used to: embeddings and answers on images that it has not learned from, kept with it, so that a batch
of other images can be held against them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tasks.extract import tensors
from tasks.model.decisions import THRESHOLD
from tasks.train.heads import Head

MOST, WIDTH = 1000, 256
"""Images whose embeddings are kept, and numbers of each: half a megabyte."""

_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Reference:
    """Reference statistics of a model.

    Attributes:
        embeddings: float32 ``[n, width]``, see `embed`.
        confusion: how many images of each class (columns) were given each class (rows), float64 ``[C, C]``; where an
            image may have several labels, one such table ``[2, 2]`` for each: ``[C, 2, 2]``; of numbers, an empty one.
        split: that the images are of.
    """

    embeddings: np.ndarray
    confusion: np.ndarray
    split: str

    def save(self, path: Path) -> None:
        """Write it to a safetensors file; of the table, the cells that are not empty."""
        table = torch.from_numpy(self.confusion).to(torch.int32).to_sparse().coalesce()
        state = {
            "embeddings": torch.from_numpy(self.embeddings).half(), "cells": table.indices().int(),
            "counts": table.values(), "shape": torch.tensor(table.shape),
        }  # fmt: skip
        tensors.write(path, state, {"split": self.split})

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read it back."""
        state, about = tensors.read(path)
        cells, counts, shape = state["cells"].long(), state["counts"].double(), state["shape"].tolist()
        table = torch.sparse_coo_tensor(cells, counts, shape, check_invariants=True)
        return cls(state["embeddings"].float().numpy(), table.to_dense().numpy(), about["split"])


def embed(head: Head, features: torch.Tensor) -> np.ndarray:
    """Features ``[N, width]`` as samples of them are compared: standardised as the head does and, where there are more
    than `WIDTH`, sketched. Float32 ``[N, at most WIDTH]``.

    A sketch (Charikar et al. 2002, "Finding frequent items in data streams"; Weinberger et al. 2009, "Feature hashing
    for large scale multitask learning") adds each feature, with a sign, to one of `WIDTH` sums, which keeps distances
    in the mean. Place and sign come from a hash of the feature's number, so that no matrix has to be kept.
    """
    with torch.inference_mode():
        standardised = head.standardised(features.float()).clamp(-1e3, 1e3)
        if standardised.shape[1] <= WIDTH:
            return standardised.numpy()
        places, signs = _hashed(standardised.shape[1])
        return torch.zeros(len(standardised), WIDTH).index_add_(1, places, standardised * signs).numpy()


def count_answers(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The table of a `Reference`, of labels int ``[N]`` or ones and zeros ``[N, C]`` and probabilities ``[N, C]``."""
    classes = probabilities.shape[1]
    if targets.ndim == 1:
        cells = probabilities.argmax(1) * classes + targets
        return np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.float64)
    given, there = probabilities >= THRESHOLD, targets > 0
    table = [[(~given & ~there), (~given & there)], [(given & ~there), (given & there)]]
    return np.array([[cell.sum(0) for cell in row] for row in table], np.float64).transpose(2, 0, 1)


def _hashed(width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Place int64 and sign float32 of each feature, ``[width]``, by Fibonacci hashing, mixed twice."""
    mixed = np.arange(1, width + 1, dtype=np.uint64)
    for _ in range(2):
        mixed = mixed * _FACTOR  # modulo 2**64
        mixed ^= mixed >> np.uint64(29)
    places = (mixed >> np.uint64(20)) % np.uint64(WIDTH)
    signs = (mixed >> np.uint64(50)) & np.uint64(1)
    return torch.from_numpy(places.astype(np.int64)), torch.from_numpy(2 * signs.astype(np.float32) - 1)
