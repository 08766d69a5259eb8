"""Slices: named where a model is really worse, and seldom where it is not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import fisher_exact

from tasks.evaluate.slices.clusters import as_part, find_clusters
from tasks.evaluate.slices.parts import Part, by_thirds, named, slice_table, worse


def parts_of(random: np.random.Generator, count: int) -> list[Part]:
    """Three columns that know nothing of the answers."""
    return [part for name in "abc" for part in by_thirds(name, random.random(count), ".2f")]


def blobs(random: np.random.Generator, sizes: list[int]) -> tuple[torch.Tensor, np.ndarray]:
    """Features of so many images of each kind, and the kinds."""
    kinds = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = np.random.default_rng(0).normal(0, 3, (len(sizes), 16))
    points = centres[kinds] + random.normal(size=(len(kinds), 16))
    return torch.from_numpy(points.astype(np.float32)), kinds


def names_found(random: np.random.Generator, planted: float) -> set[str]:
    """Names of the slices of 1,500 images, in one kind of which, of 150, so much more is wrong."""
    sizes = [150, *[270] * 5]
    sides = [blobs(random, sizes) for _ in range(2)]
    (known, seen), (new, kinds) = sides
    right, tests = (random.random(len(of)) < 0.9 - planted * (of == 0) for of in (seen, kinds))
    classes = np.eye(2, dtype=bool)[kinds % 2]
    found = find_clusters(known, right, new)
    parts = [as_part(number, chosen, classes, classes, "ab") for number, chosen in enumerate(found, 1)]
    return set(named(slice_table([*parts, *parts_of(random, len(kinds))], tests))["slice"])


@pytest.mark.slow
def test_without_a_difference_a_slice_is_named_in_at_most_one_of_twenty_draws() -> None:
    random = np.random.default_rng(0)
    told = [bool(len(named(slice_table(parts_of(random, 600), random.random(600) < 0.85)))) for _ in range(200)]
    assert sum(told) <= 10


@pytest.mark.slow
def test_of_found_slices_a_false_one_is_seldom_named_and_a_bad_one_mostly() -> None:
    random = np.random.default_rng(1)
    assert sum(bool(names_found(random, 0.0)) for _ in range(200)) <= 10
    hits = [any(name.startswith("cluster") for name in names_found(random, 0.15)) for _ in range(100)]
    assert sum(hits) >= 80


@pytest.mark.slow
def test_a_declared_slice_that_is_fifteen_points_worse_is_named_in_four_of_five_draws() -> None:
    random = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        chosen = np.arange(1000) < 150
        right = random.random(1000) < np.where(chosen, 0.75, 0.9)
        parts = [Part("dark", "brightness", chosen), *parts_of(random, 1000)]
        hits += "dark" in set(named(slice_table(parts, right))["slice"])
    assert hits >= 160


def test_the_test_is_fishers_exact_one() -> None:
    random = np.random.default_rng(3)
    chosen, right = random.random(300) < 0.2, random.random(300) < 0.8
    table = [[(right & side).sum(), (~right & side).sum()] for side in (chosen, ~chosen)]
    assert worse(right, chosen, ~chosen) == pytest.approx(fisher_exact(table, alternative="less").pvalue)


def test_frames_of_a_few_films_are_no_slice() -> None:
    """Groups whose images are all right or all wrong raise no false alarm, and three of them say nothing."""
    random = np.random.default_rng(4)
    groups = np.repeat(np.arange(60), 15)
    alarms = by_image = 0
    for _ in range(300):
        right = np.repeat(random.random(60) < 0.8, 15)
        chosen = groups < 12
        alarms += worse(right, chosen, ~chosen, groups) < 0.05
        by_image += worse(right, chosen, ~chosen) < 0.05
    assert alarms <= 0.08 * 300 and by_image > 0.2 * 300
    assert worse(groups >= 3, groups < 3, groups >= 3, groups) == 1


def test_a_slice_says_which_class_it_mostly_is() -> None:
    chosen = np.arange(40) < 20
    true, given = np.eye(3, dtype=bool)[np.where(np.arange(40) < 18, 2, 0)], np.eye(3, dtype=bool)[np.arange(40) % 3]
    part = as_part(1, chosen, true, given, ["ant", "bee", "cat"])
    assert (part.name, part.kind, part.note) == ("cluster 1", "found", "mostly cat")


def test_the_table_has_accuracy_and_rest_of_what_was_looked_at() -> None:
    values = np.r_[np.arange(30.0), np.full(10, np.nan)]
    right = np.arange(40) >= 5
    table = slice_table(list(by_thirds("size", values, ",.0f", "of a sample")), right)
    assert table["slice"].tolist()[0] == "size below 10 pixels" and table["images"].tolist() == [10, 10, 10]
    row = table.iloc[0]
    assert (row["accuracy"], row["rest"], row["difference"], row["note"]) == (0.5, 1.0, -0.5, "of a sample")
    assert (table["p_holm"] >= table["p"]).all()
    assert slice_table([], right).empty and not list(by_thirds("size", np.ones(40), ".0f"))
    assert isinstance(table, pd.DataFrame)


@pytest.mark.parametrize("count", [0, 5, 45])
def test_few_images_have_no_clusters_or_few(count: int) -> None:
    features = torch.randn(count, 9)
    assert len(list(find_clusters(features, np.arange(count) % 2 == 0, features))) <= 5
