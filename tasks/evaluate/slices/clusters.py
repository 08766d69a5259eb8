"""Slices that nobody declared: clusters of the features on which a model is worse."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from tasks.evaluate.slices.parts import LEAST, Part, worse

DIRECTIONS, LEARNED_FROM = 32, 4_000
"""Principal components that are clustered, and most images that components and clusters are found by."""

NUMBERS = (5, 10, 20)
"""Of clusters: how large a slice is, is not known."""

EACH = 20
"""Images of a cluster, on average, at least."""

SUSPECTED = 5
"""Clusters that are tested: each costs the others power."""

ALIKE = 0.5
"""Share of two clusters' images that both have, from which on they are one."""

MOSTLY = 2 / 3
"""Share of a slice's images with one label, from which on it is told."""


def find_clusters(
    known: torch.Tensor, right: np.ndarray, new: torch.Tensor, groups: np.ndarray | None = None, seed: int = 0
) -> Iterator[np.ndarray]:
    """The clusters that look worst on images where that may be found out, as they are among others where it is tested:
    bool ``[M]``.

    Args:
        known: features float32 ``[N, width]`` of the images that clusters are found on.
        right: bool ``[N]``, whether their answers are or, of numbers, how good each is, float ``[N]``; groups: of each,
            where images come in groups.
        new: features ``[M, width]`` of the images to test them on.
    """
    if min(len(known), len(new)) < 2 * EACH or right.min() == right.max():
        return
    order = np.random.default_rng(seed).permutation(len(known))[:LEARNED_FROM]
    points, others = _components(known, new, known[torch.from_numpy(order)].float(), seed)
    suspects = []
    for number in (number for number in NUMBERS if number * EACH <= len(points)):
        # Of fewer different points than clusters it warns; its threads wait for each other longer than they work.
        with warnings.catch_warnings(action="ignore"), threadpool_limits(1):
            clusters = KMeans(number, n_init=1, max_iter=50, random_state=seed).fit(points[order])
            of, among = clusters.predict(points), clusters.predict(others)
        for cluster in range(number):
            inside, tested = of == cluster, among == cluster
            there = all(LEAST <= part.sum() < len(part) for part in (inside, tested))
            if there and right[inside].mean() < right[~inside].mean():
                suspects.append((worse(right, inside, ~inside, groups), inside, tested))
    yield from _apart(sorted(suspects, key=lambda suspect: suspect[0]))


def _apart(suspects: Sequence[tuple[float, np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
    kept: list[np.ndarray] = []
    for _, inside, tested in suspects:
        if len(kept) < SUSPECTED and all((inside & other).sum() <= ALIKE * (inside | other).sum() for other in kept):
            kept.append(inside)
            yield tested


def _components(
    known: torch.Tensor, new: torch.Tensor, sample: torch.Tensor, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both in the principal components of a sample: float32 ``[N, D]`` and ``[M, D]``."""
    mean = sample.mean(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        directions = torch.pca_lowrank(sample, min(DIRECTIONS, *sample.shape))[2]
    first, second = ((part.float() @ directions - mean @ directions).numpy() for part in (known, new))
    return first, second


def as_part(number: int, chosen: np.ndarray, true: np.ndarray, given: np.ndarray, classes: Sequence[str]) -> Part:
    """A cluster as a slice, with what most of its images have in common.

    Args:
        true, given: labels that images have, and that they are given, bool ``[M, C]``.
    """
    notes = []
    for words, labels in (("mostly", true), ("mostly given", given)):
        shares = labels[chosen].mean(0)
        if shares.max() >= MOSTLY:
            notes.append(f"{words} {classes[int(shares.argmax())]}")
    return Part(f"cluster {number}", "found", chosen, note=", ".join(notes))
