"""Near neighbours in training: found where planted, not where there are none, and what they do to a figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import normalize

from tasks.evaluate.neighbours.leaks import find_near, leak_findings, measure_leak
from tasks.evaluate.neighbours.nearest import Learned, _hashed, nearest
from tasks.evaluate.report import Answers
from tasks.leak import Leak
from tasks.records import FeatureSet

WIDTH, TRAIN, TEST, PLANTED = 12, 600, 200, 20
FEATURES = FeatureSet(
    fingerprint="f", store=Path("nowhere"), backbone="b", weights="w", digest="0", layers=("x",), pool="avg",
    width=WIDTH, precision="float32", device="cpu", new=0, reused=0, seconds=0,
)  # fmt: skip


def rows_of(names: list[str], split: str) -> pd.DataFrame:
    return pd.DataFrame({"path": names, "hash": [f"{split}{name}" for name in names], "label": "a", "split": split})


def situation(images: torch.Tensor, among: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> Learned:
    monkeypatch.setattr(Learned, "place", lambda self, hashes: normalize(images, dim=1))
    rows = rows_of([f"x{place}y" for place in range(len(among))], "train")
    return Learned(rows, FEATURES, normalize(among, dim=1))


def test_planted_copies_are_near_and_unrelated_images_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(0)
    among = torch.randn(TRAIN, WIDTH, generator=random)
    images = torch.randn(TEST, WIDTH, generator=random)
    rows = rows_of([f"z{place}y" for place in range(TEST)], "test")
    assert find_near(rows, situation(images, among, monkeypatch)).near.sum() <= 1
    images[:PLANTED] = among[:PLANTED] + 0.05 * torch.randn(PLANTED, WIDTH, generator=random)
    near = find_near(rows, situation(images, among, monkeypatch))
    assert near.near[:PLANTED].all() and near.near[PLANTED:].sum() <= 1
    assert near.index[:PLANTED].tolist() == list(range(PLANTED))


def test_frames_of_one_track_are_near_and_their_names_say_how_to_split(monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(0)
    tracks = torch.randn(60, WIDTH, generator=random)
    frames = (tracks[:, None] + 0.15 * torch.randn(60, 12, WIDTH, generator=random)).flatten(0, 1)
    names = [f"{track:05d}_{frame:05d}.png" for track in range(60) for frame in range(12)]
    held_out = np.arange(len(names)) % 4 == 0
    learned = situation(frames[held_out], frames[~held_out], monkeypatch)
    learned.rows["path"] = np.array(names)[~held_out]
    rows = rows_of(np.array(names)[held_out].tolist(), "test")
    near = find_near(rows, learned)
    assert near.named and near.near.all()
    answers = Answers("test", rows, np.zeros(len(rows), int), np.ones((len(rows), 1)))
    leak = measure_leak(answers, near)
    [line] = leak_findings({"test": leak})
    assert "180 of 180 images have a near neighbour" in line and "{by: group, group: stem}" in line


def test_names_that_many_unrelated_images_share_make_none_near(monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(0)
    among, images = (torch.randn(count, WIDTH, generator=random) for count in (TRAIN, TEST))
    images[:3] = among[:3] + 0.05 * torch.randn(3, WIDTH, generator=random)
    learned = situation(images, among, monkeypatch)
    # As the catalogues name them that sets were put together from: a number of the category, and a counter.
    learned.rows["path"] = [f"{place % 30:03d}_{place:04d}.jpg" for place in range(TRAIN)]
    rows = rows_of([f"{place % 30:03d}_{9000 + place}.jpg" for place in range(TEST)], "test")
    near = find_near(rows, learned)
    assert near.near[:3].all() and near.near.sum() <= 4 and not near.named


def test_few_images_are_near_by_content_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    learned = situation(torch.ones(2, 3), torch.ones(20, 3), monkeypatch)
    rows = rows_of(["a", "b"], "test").assign(hash=["trainx3y", "new"])
    assert find_near(rows, learned).near.tolist() == [True, False]


def test_inflation_is_the_headline_less_the_figure_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    close = np.arange(1000) < 400
    right = np.where(close, True, random.random(1000) < 0.6)
    labels = random.integers(0, 2, 1000)
    answers = Answers("test", rows_of(list("x" * 1000), "test"), labels, np.eye(2)[np.where(right, labels, 1 - labels)])
    near = find_near(rows_of(["a"], "test"), situation(torch.ones(1, 3), torch.ones(9, 3), monkeypatch))
    leak = measure_leak(answers, near.__class__(**near.__dict__ | {"near": close, "bits": np.full(1000, -1)}))
    assert leak.near_figure == 1 and leak.far[0] == pytest.approx(right[400:].mean())
    value, low, high = leak.inflation
    assert value == pytest.approx(right.mean() - right[400:].mean(), abs=0.01) and 0.1 < low < value < high
    assert leak.is_material and leak.remedy is None
    assert "give them a group in the source" in next(iter(leak_findings({"test": leak})))


def test_a_class_of_which_all_images_are_near_inflates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    close = np.arange(200) < 10
    targets = np.column_stack([random.random((200, 2)) < 0.5, close]).astype(float)
    probabilities = np.column_stack([random.random((200, 2)), np.where(close, 0.9, 0.1)])
    answers = Answers("test", rows_of(list("x" * 200), "test"), targets, probabilities)
    near = find_near(rows_of(["a"], "test"), situation(torch.ones(1, 3), torch.ones(9, 3), monkeypatch))
    leak = measure_leak(answers, near.__class__(**near.__dict__ | {"near": close, "bits": np.full(200, -1)}))
    assert abs(leak.inflation[0]) < 0.05 and not leak.is_material


def test_a_few_near_neighbours_that_change_nothing_are_no_finding() -> None:
    leak = Leak(images=1000, near=12, near_figure=1.0, far=(0.9, 0.88, 0.92), inflation=(0.0012, 0.0, 0.003))
    assert not leak.is_material and not list(leak_findings({"test": leak}))


def test_hashing_keeps_inner_products_and_the_nearest_are_those_of_a_full_table() -> None:
    features = torch.randn(40, 5000, generator=torch.Generator().manual_seed(0))
    hashed = _hashed(features, 512)
    assert (hashed.square().sum(1) / features.square().sum(1) - 1).abs().mean() < 0.1
    images, among = normalize(hashed[:10], dim=1), normalize(hashed, dim=1)
    found = nearest(images, among, 3)
    table = (images @ among.T).numpy()
    np.testing.assert_array_equal(found.index, np.argsort(-table, axis=1)[:, :3])
    assert found.index[:, 0].tolist() == list(range(10))
