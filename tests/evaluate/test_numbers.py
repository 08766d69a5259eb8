"""What is written, drawn and found where images have numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tasks.evaluate.neighbours.leaks import Near
from tasks.evaluate.neighbours.mistakes import show_mistakes
from tasks.evaluate.neighbours.nearest import Learned
from tasks.evaluate.numbers.figures import errors_figure, scatter_figure
from tasks.evaluate.numbers.leaks import measure_number_leak
from tasks.evaluate.numbers.report import largest_errors, report_numbers
from tasks.evaluate.numbers.slices import error_table, report_number_slices
from tasks.evaluate.slices.parts import Part
from tasks.records import Dataset
from tests.evaluate.numbered import CONFIG, answered, make_dataset, make_features


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("numbers"))


def test_a_split_has_its_tables_and_pictures(dataset: Dataset, tmp_path: Path) -> None:
    answers = answered(dataset, "test")
    scores = report_numbers(answers, CONFIG, tmp_path)
    kinds = ("scatter.png", "errors.png", "spread.png", "spread.csv", "predictions.parquet")
    assert {path.name for path in tmp_path.iterdir()} == {f"test_{kind}" for kind in kinds}
    predictions = pd.read_parquet(tmp_path / "test_predictions.parquet")
    assert list(predictions.columns) == ["path", "label", "hash", "predicted", "low", "high", "group"]
    inside = predictions["label"].between(predictions["low"], predictions["high"]).mean()
    assert inside == scores.metrics["coverage_90"][0] and (predictions["predicted"] == answers.mean).all()


def test_files_of_a_further_task_bear_its_name(dataset: Dataset, tmp_path: Path) -> None:
    report_numbers(replace(answered(dataset, "val"), task="age"), CONFIG, tmp_path)
    assert all(path.name.startswith("val_age_") for path in tmp_path.iterdir())


@pytest.mark.parametrize("count", [1, 5, 3_000])
def test_pictures_are_drawn_of_few_and_of_many(count: int, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    targets = random.normal(size=count)
    for picture in (scatter_figure, errors_figure):
        picture(targets, targets + 0.1, "$1", "m²").savefig(tmp_path / "x.png")
        picture(np.zeros(count), np.zeros(count), "all the same").savefig(tmp_path / "x.png")


def test_the_largest_errors_stand_beside_what_was_learned_from(dataset: Dataset, tmp_path: Path) -> None:
    answers = answered(dataset, "test")
    wrong = largest_errors(answers)
    assert np.abs(wrong["error"]).tolist() == sorted(answers.errors, reverse=True)[: len(wrong)]
    assert (wrong["error"] == wrong["predicted"] - wrong["label"]).all()
    features = make_features(dataset, tmp_path / "space")
    show_mistakes(wrong, "test", dataset, Learned.of(dataset, features), tmp_path, "largest errors")
    table = pd.read_csv(tmp_path / "test_mistakes.csv")
    assert {"error", "low", "high", "neighbour_1_label", "neighbour_3_similarity"} <= {*table}
    assert table["label"].tolist() == pytest.approx(wrong["label"].tolist(), abs=1e-3)
    known = dataset.read_manifest().set_index("path")["label"]
    assert table["neighbour_1_label"].tolist() == pytest.approx(known[table["neighbour_1"]].tolist(), abs=1e-3)
    exact = replace(answers, mean=answers.targets)
    assert largest_errors(exact).empty


def test_a_part_with_larger_errors_is_told(dataset: Dataset, tmp_path: Path) -> None:
    choosing, answers = answered(dataset, "val"), answered(dataset, "test")
    noise = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    told = report_number_slices(CONFIG, dataset, choosing, answers, lambda rows: noise[: len(rows)], tmp_path)
    night = (answers.rows["domain"] == "night").to_numpy()
    assert len(told) == 1 and told[0].startswith("test: worse on domain night: MAE ")
    assert f"{answers.errors[night].mean():.4g} years of 20 images" in told[0]
    table = pd.read_csv(tmp_path / "test_slices.csv").set_index("slice")
    assert table.loc["domain night", "difference"] == pytest.approx(-table.loc["domain day", "difference"], rel=1e-4)
    assert pd.read_csv(tmp_path / "test_slice_images.csv")["slice"].unique().tolist() == ["domain night"]
    assert report_number_slices(CONFIG, dataset, answers, answers, lambda rows: noise, tmp_path) == []


def test_groups_make_a_slice_less_sure() -> None:
    random = np.random.default_rng(0)
    chosen = np.arange(400) < 200
    groups = np.arange(400) // 20
    bad = np.isin(groups, [0, 1])  # all of the difference is in two groups
    errors = np.abs(random.normal(size=400)) + 3 * bad
    alone, grouped = (error_table([Part("first", "x", chosen)], errors, by).iloc[0] for by in (None, groups))
    assert alone["p"] < 1e-3 < 0.05 < grouped["p"]
    assert grouped["high"] - grouped["low"] > 2 * (alone["high"] - alone["low"])


def near_to(close: np.ndarray) -> Near:
    count = len(close)
    nothing = np.zeros(count)
    return Near(nothing.astype(int), nothing, np.full(count, -1), nothing, close, False)


def test_images_near_those_learned_from_make_an_error_too_small(dataset: Dataset) -> None:
    answers = answered(dataset, "test")
    close = np.arange(60) % 3 != 0  # those by day, which are told well
    leak = measure_number_leak(answers, near_to(close))
    far, whole = answers.errors[~close].mean(), answers.errors.mean()
    assert leak.far[0] == pytest.approx(far) and leak.inflation[0] == pytest.approx(1 - whole / far)
    assert leak.inflation[1] > 0.2 and leak.is_material and "MAE" in str(leak) and "%" in str(leak)
    evenly = np.arange(60) % 4 == 0
    assert not measure_number_leak(answers, near_to(evenly)).is_material
    assert measure_number_leak(answers, near_to(np.zeros(60, bool))).inflation == (0, 0, 0)
    assert measure_number_leak(answers, near_to(np.ones(60, bool))).is_material
