"""Held-out images that have a near neighbour among those that were learned from, and what they do to the headline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from tasks.evaluate.neighbours.nearest import Learned, Nearest, nearest
from tasks.evaluate.report import Answers
from tasks.evaluate.scores.intervals import Figures, Interval, Sample, share_among
from tasks.evaluate.scores.paired import differences
from tasks.evaluate.scores.ranking import average_precision, over_classes
from tasks.ingest.stems import stem_of
from tasks.leak import Leak

RARE = 1e-3
"""Probability below which a neighbour is too near to be one by chance."""

REFERENCE, MIDDLE = 1_000, 0.04
"""Images drawn of those that were learned from, and the share of them that lie nearer than the distance that others are
measured by; so frames of one film, up to that share of the images, do not pass for what is usual."""

FEWEST = 50
"""With fewer images to learn from, nothing is known of what is usual."""

RESAMPLES = 1_000
SEVERAL = 200
"""Resamples of inflation: with one label an image, and with several."""

ALIKE = 3
"""Bits by which hashes of near-duplicates differ at most, as ingestion may group them."""


@dataclass(frozen=True)
class Near:
    """How near each image of a split is to those that were learned from.

    Attributes:
        index: place of the nearest among those, int64 ``[N]``; its ``similarity`` is a cosine, float32 ``[N]``.
        bits: of 64 by which perceptual hashes differ, int64 ``[N]``; -1 where one has none.
        chance: that an unrelated neighbour is as near, float64 ``[N]``.
        near: bool ``[N]``.
        named: whether names told, too.
    """

    index: np.ndarray
    similarity: np.ndarray
    bits: np.ndarray
    chance: np.ndarray
    near: np.ndarray
    named: bool


def find_near(rows: pd.DataFrame, learned: Learned, seed: int = 0) -> Near:
    """Which images of a split have a near neighbour among those that were learned from.

    By embedding: among unrelated images in d dimensions, the share of those within a distance grows as its d-th power,
    so that the nearest of n at distance r has probability 1 - (1 - (r/R)^d)^(n - 1) of being as near, where n lie
    within R; d is what the distances themselves say, between R and four times as many images (Levina & Bickel 2004,
    "Maximum likelihood estimation of intrinsic dimension"). By perceptual hash: the share of such
    farther neighbours whose hash
    differs in as few bits. The two probabilities are put together (Fisher 1925). No threshold has to be known for a
    backbone or a kind of images. By name: see `_by_name`.
    """
    place = learned.place(rows["hash"].tolist())
    found = nearest(place, learned.directions, 1)
    index, similarity = found.index[:, 0], found.similarity[:, 0]
    count = len(learned.rows)
    if count < FEWEST:
        bits = _bits(rows, learned.rows, index[:, None])[:, 0]
        near = rows["hash"].isin(learned.rows["hash"]).to_numpy()
        return Near(index, similarity, bits, np.where(near, 0.0, 1.0), near, False)
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:REFERENCE]
    middle = max(1, round(MIDDLE * len(drawn)))
    usual = nearest(place, learned.directions[drawn], 4 * middle)
    chance = _too_near(similarity, usual, middle, middle * count / len(drawn))
    bits = _bits(rows, learned.rows, index[:, None])[:, 0]
    farther = _bits(rows, learned.rows, drawn.numpy()[usual.index[:, middle:]])
    chance = _together(chance, bits, farther[farther >= 0])
    near = (chance < RARE) | rows["hash"].isin(learned.rows["hash"]).to_numpy()
    by_name = _by_name(rows, learned.rows, index, near, seed)
    return Near(index, similarity, bits, chance, near | by_name, bool(by_name.any()))


def _too_near(similarity: np.ndarray, usual: Nearest, middle: int, within: float) -> np.ndarray:
    distances = np.sqrt(np.maximum(2 - 2 * usual.similarity.astype(np.float64), 1e-9))
    ratios = np.log(distances[:, -1] / distances[:, middle - 1])
    dimension = np.log(usual.similarity.shape[1] / middle) / max(float(np.median(ratios)), 1e-6)
    closest = np.sqrt(np.maximum(2 - 2 * similarity.astype(np.float64), 1e-9))
    share = np.minimum(1 - 1e-15, (closest / distances[:, middle - 1]) ** dimension)
    return -np.expm1((within - 1) * np.log1p(-share))


def _bits(rows: pd.DataFrame, others: pd.DataFrame, index: np.ndarray) -> np.ndarray:
    """Bits by which the hashes of rows ``[N]`` and of the others at ``index`` ``[N, k]`` differ: int64 ``[N, k]``, -1
    where one has none."""
    if "dhash" not in rows:
        return np.full(index.shape, -1)
    known, hashes = zip(*(_hashes(table["dhash"]) for table in (rows, others)), strict=True)
    differing = np.bitwise_count(hashes[0][:, None] ^ hashes[1][index]).astype(np.int64)
    return np.where(known[0][:, None] & known[1][index], differing, -1)


def _hashes(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    whole = column.astype("Int64")
    return whole.notna().to_numpy(bool), whole.fillna(0).to_numpy(np.int64).view(np.uint64)


def _together(chance: np.ndarray, bits: np.ndarray, farther: np.ndarray) -> np.ndarray:
    if not len(farther):
        return chance
    as_near = (np.bincount(farther, minlength=65).cumsum() + 1) / (len(farther) + 1)
    product = np.maximum(chance * as_near[bits], 1e-300)
    return np.where(bits < 0, chance, product * (1 - np.log(product)))


def _by_name(rows: pd.DataFrame, others: pd.DataFrame, index: np.ndarray, near: np.ndarray, seed: int) -> np.ndarray:
    """Images whose name but for its counter is that of one that was learned from, bool ``[N]``; none where such names
    do not tell which images are near: at least half of the near pairs share one, at least a tenth of the images that
    share one are near, and few images of a label share one."""
    ours, theirs = _stems(rows), _stems(others)
    shared = np.isin(ours, theirs)
    if not near.any() or (ours[near] == theirs[index[near]]).mean() < 0.5 or near[shared].mean() < 0.1:
        return np.zeros(len(rows), bool)
    label = others["label"].map(str).to_numpy()
    alike = others.groupby(label).indices
    random = np.random.default_rng(seed)
    drawn = [(stem, alike[name]) for stem, name in zip(ours, rows["label"].map(str), strict=True) if name in alike]
    usual = np.mean([theirs[random.choice(places)] == stem for stem, places in drawn]) if drawn else 1.0
    return shared if usual < 0.2 else np.zeros(len(rows), bool)


def _stems(rows: pd.DataFrame) -> np.ndarray:
    labels = rows["label"].map(lambda label: label if isinstance(label, str) else None)
    return np.array([stem_of(path, label) for path, label in zip(rows["path"], labels, strict=True)], object)


def measure_leak(answers: Answers, near: Near, seed: int = 0) -> Leak:
    """What near neighbours do to the headline of a split: the figure of all images less that of those without one, in
    each class as it is there, so that classes that have more of them do not pass for leaks.

    An upper estimate: images with near neighbours may be easier, leak or not.
    """
    close, count = near.near, len(near.near)
    sample = Sample(count, answers.groups, seed)
    everything = np.ones(count, bool)
    whole, far = (_headline(answers, keep, ~close) for keep in (everything, ~close))
    several = answers.targets.ndim == 2
    found = differences(whole, far, sample, SEVERAL if several else RESAMPLES)["figure"]
    once = np.ones((1, count))
    return Leak(
        images=count,
        near=int(close.sum()),
        near_figure=float(_headline(answers, close, close)(once)["figure"][0]),
        far=_alone(answers, ~close, sample),
        inflation=(found.value, found.low, found.high),
        remedy=remedy_of(near),
    )


def _alone(answers: Answers, keep: np.ndarray, sample: Sample) -> Interval:
    """The headline of some images, bool ``[N]``, with its interval."""
    if answers.targets.ndim == 1:
        return share_among(answers.probabilities.argmax(1) == answers.targets, keep, answers.groups)
    if not keep.any():
        return float("nan"), float("nan"), float("nan")
    figures = _headline(answers, keep, keep)
    value = float(figures(np.ones((1, len(keep))))["figure"][0])
    return sample.interval(value, sample.resample(figures, SEVERAL)["figure"])


def _headline(answers: Answers, keep: np.ndarray, like: np.ndarray) -> Figures:
    """The figure that models are judged by, of the images ``keep``, over the classes that have any of the images
    ``like``; accuracy with each class as frequent as it is in the whole split. Both are bool ``[N]``."""
    kept = keep.astype(np.float64)
    if answers.targets.ndim == 2:
        return _average_precision(answers, kept, like)
    there = np.eye(answers.probabilities.shape[1])[answers.targets]
    right = kept * (answers.probabilities.argmax(1) == answers.targets)
    counted = there[like].any(0)

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        sizes, hits = (weights * kept) @ there, (weights * right) @ there
        shares = np.divide(hits, sizes, out=np.zeros_like(hits), where=sizes > 0)
        parts = np.where(counted & (sizes > 0), weights @ there, 0.0)
        total = parts.sum(1)
        value = np.divide((shares * parts).sum(1), total, out=np.full(len(total), np.nan), where=total > 0)
        return {"figure": value}

    return figures


def _average_precision(answers: Answers, kept: np.ndarray, like: np.ndarray) -> Figures:
    """Of the images that are kept, over the classes that have any of the images ``like``; under other weights, as far
    as it changes in proportion to them."""
    rest, true = np.flatnonzero(kept), answers.targets > 0
    counted = true[like].any(0)
    of = over_classes(
        average_precision, true[rest][:, counted], answers.probabilities[rest][:, counted], both=False
    )  # fmt: skip

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"figure": np.clip(of.value + (weights[:, rest] - 1) @ of.influence, 0, 1)}

    return figures


def remedy_of(near: Near) -> str | None:
    """What to write into the configuration so that near images stand in one split; None where neither names nor hashes
    tell which belong together."""
    if near.named:
        return "ingest.split={by: group, group: stem}"
    hashed = near.near & (near.bits >= 0) & (near.bits <= ALIKE)
    return "ingest.split={by: group, group: near_duplicates}" if hashed.sum() * 2 >= max(1, near.near.sum()) else None


def leak_findings(leaks: dict[str, Leak]) -> Iterator[str]:
    """A line for each split whose headline is not to be believed, with what would end it."""
    for split, leak in leaks.items():
        if leak.is_material:
            yield f"{split}: {leak.told}"


def near_table(rows: pd.DataFrame, near: Near, learned: Learned) -> pd.DataFrame:
    """Of the rows of a split those that have a near neighbour, the nearest first."""
    places = np.flatnonzero(near.near)
    places = places[np.lexsort((-near.similarity[places], near.chance[places]))]
    theirs = learned.rows.iloc[near.index[places]]
    return pd.DataFrame(
        {"path": rows["path"].to_numpy()[places], "hash": rows["hash"].to_numpy()[places],
         "neighbour": theirs["path"].to_numpy(), "neighbour_hash": theirs["hash"].to_numpy(),
         "neighbour_split": theirs["split"].to_numpy(), "similarity": near.similarity[places],
         "bits": near.bits[places], "chance": near.chance[places]}
    )  # fmt: skip
