"""Numbers that are likely wrong: planted ones are found, clean ones left alone, and what is found can be corrected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tasks.evaluate.neighbours.suspects import report_suspects
from tasks.evaluate.numbers.suspects import doubt_numbers
from tasks.ingest.relabel import read_review
from tasks.records import Dataset, FeatureSet
from tests.evaluate.numbered import AGE
from tests.evaluate.test_suspects import WIDTH, make

COUNT, PLANTED = 400, 12


def told(folder: Path, numbers: np.ndarray, ages: np.ndarray) -> tuple[Dataset, FeatureSet]:
    """Images that bear numbers, and whose features tell ages to half a year."""
    points = np.random.default_rng(1).normal(size=(len(ages), WIDTH))
    points[:, 0] = (ages + 0.5 * points[:, 0] - 50) / 15
    dataset, features = make(folder, numbers.tolist(), points)
    return dataset.model_copy(update={"targets": (AGE,)}), features


def aged(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(20, 80, COUNT).round(1)


def test_replaced_numbers_are_found_and_others_are_not(tmp_path: Path) -> None:
    hits, listed = 0, 0
    for seed in range(3):
        ages, wrong = aged(seed), np.random.default_rng(seed + 9).permutation(COUNT)[:PLANTED]
        given = ages.copy()
        given[wrong] = aged(seed + 5)[wrong]
        (folder := tmp_path / str(seed)).mkdir()
        count, noted = report_suspects(*told(folder, given, ages), None, 0, folder)
        table = pd.read_csv(folder / "suspects.csv", dtype={"label": str, "suggested": str})
        places = [int(path.removesuffix(".png")) for path in table["path"]]
        hits, listed = hits + len({*places} & {*wrong.tolist()}), listed + count
        assert len(table) == count and len(noted) == 1 and noted[0].startswith(f"{count} of 400 numbers may be wrong: ")
        assert table["score"].is_monotonic_decreasing and table["score"].between(0.9, 0.9999).all()
        assert float(table["suggested"].iloc[0]) == pytest.approx(ages[places[0]], abs=3)
        assert table["why"].str.contains(" ± .* by a model that has not learned from it").all()
    assert hits >= 0.8 * 3 * PLANTED and hits >= 0.8 * listed


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_clean_numbers_are_hardly_doubted(seed: int, tmp_path: Path) -> None:
    dataset, features = told(tmp_path, aged(seed), aged(seed))
    count, noted = report_suspects(dataset, features, None, 0, tmp_path)
    assert count <= 2 and not noted


def test_what_is_listed_can_be_corrected(tmp_path: Path) -> None:
    ages = aged(0)
    given = ages.copy()
    given[7] = 97.5
    dataset, features = told(tmp_path, given, ages)
    report_suspects(dataset, features, None, 0, tmp_path)
    table = pd.read_csv(tmp_path / "suspects.csv", dtype=str)
    assert table["path"].iloc[0] == "7.png" and table["label"].iloc[0] == "97.5"
    table.head(1).assign(was=table["label"], label=table["suggested"]).to_csv(tmp_path / "list.csv", index=False)
    [correction] = read_review(tmp_path / "list.csv", dataset.read_manifest(), {}).values()
    assert (correction.was, correction.label) == ("97.5", table["suggested"].iloc[0])


def test_of_few_images_of_one_group_and_of_numbers_that_are_all_the_same_nothing_is_said(tmp_path: Path) -> None:
    dataset, features = told(tmp_path, aged(0)[:20], aged(0)[:20])
    assert report_suspects(dataset, features, None, 0, tmp_path) == (0, [])
    points, numbers = torch.randn(100, 4), torch.randn(100)
    assert doubt_numbers(points, numbers, np.zeros(100, np.int64)) is None
    assert doubt_numbers(points, torch.full((100,), 7.1)) is None


def test_wrong_numbers_are_found_where_all_others_are_told_to_the_last_digit() -> None:
    points = torch.tensor(np.random.default_rng(0).normal(size=(COUNT, 4))).float()
    numbers = 10 * points[:, 0] + 5 * points[:, 1]
    wrong = torch.tensor([7, 100, 300])
    numbers[wrong] += 50
    found = doubt_numbers(points, numbers)
    assert found is not None and np.flatnonzero(found.doubted).tolist() == wrong.tolist()


def test_where_images_of_a_group_bear_one_wrong_number_none_of_them_vouches_for_another() -> None:
    """By itself, each would be told by its like."""
    random = np.random.default_rng(0)
    groups = np.arange(300) // 6
    points = torch.tensor(random.normal(size=(50, 8))[groups] + 0.01 * random.normal(size=(300, 8))).float()
    numbers = points[:, 0] * 10 + torch.tensor(random.normal(size=300)).float()
    numbers[:6] += 80
    found = doubt_numbers(points, numbers, groups)
    assert found is not None and found.doubted[:6].all() and found.doubted[6:].sum() <= 2
