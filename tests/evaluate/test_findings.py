"""What is said beside the figures: splits that disagree, and images that look like known ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.evaluate.findings import findings
from tasks.evaluate.report import Answers
from tasks.evaluate.scores.metrics import score
from tasks.evaluate.scores.multi_label import score_multi_label
from tasks.records import Dataset
from tasks.target import one_task

HERE = Path("nowhere")


def dataset(several: bool = False, choose_on: str = "val") -> Dataset:
    return Dataset(
        fingerprint="d", source="photos", version="v", manifest=HERE, report=HERE, images=HERE,
        targets=one_task(("a", "b"), several), counts={}, choose_on=choose_on, report_on="test", quarantined=0,
    )  # fmt: skip


def answered(split: str, right: float, images: int = 200, groups: np.ndarray | None = None) -> tuple:
    """A split of two classes, of which the first images are answered right."""
    labels = np.arange(images) % 2
    shown = np.where(np.arange(images) < right * images, labels, 1 - labels)
    probabilities = np.where(shown[:, None] == [0, 1], 0.9, 0.1)
    rows = pd.DataFrame({"path": [f"{split}/{number}" for number in range(images)]})
    scores = score(labels, probabilities, "ab", groups=groups, resamples=100)
    return Answers(split, rows, labels, probabilities, groups), scores


def test_splits_that_disagree_beyond_chance_are_told_and_others_are_not() -> None:
    [told] = findings([answered("val", 0.97), answered("test", 0.81)], dataset(), None)
    assert told.startswith("val and test disagree: accuracy 0.9700 and 0.8100 differ by more than chance explains")
    assert not list(findings([answered("val", 0.93), answered("test", 0.88)], dataset(), None))
    # As many images of few groups may differ by as much.
    groups = np.where(np.arange(200) < 162, np.arange(200) // 9, 18 + np.arange(200) // 90)
    told = list(findings([answered("val", 0.97), answered("test", 0.81, groups=groups)], dataset(), None))
    assert not any("disagree" in line for line in told)


def test_several_labels_are_compared_by_average_precision() -> None:
    random = np.random.default_rng(0)
    found = []
    for split, noise in (("val", 0.3), ("test", 3.0)):
        targets = (random.random((300, 2)) < 0.4).astype(np.float32)
        probabilities = 1 / (1 + np.exp(-(4 * targets - 2 + noise * random.normal(size=targets.shape))))
        scores = score_multi_label(targets, probabilities, "ab", resamples=100)
        found.append((Answers(split, pd.DataFrame({"path": range(300)}), targets, probabilities), scores))
    [told] = findings(found, dataset(several=True), None)
    assert "disagree: average precision 1.0000 and 0." in told


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (3, []),
        (
            150,
            "val: 150 of 400 images look like ones that were learned from, so its figures may be too good: "
            "accuracy 0.8400 without them",
        ),
        (400, "val: 400 of 400 images look like ones that were learned from: its figures may be far too good"),
    ],
)
def test_a_split_that_looks_like_what_was_learned_from_is_told_with_the_figure_of_the_rest(
    pairs: int, told: str | list[str], tmp_path: Path
) -> None:
    known = [{"first": f"train/{n}", "first_split": "train", "second": f"val/{n}", "second_split": "val"}
             for n in range(pairs)]  # fmt: skip
    apart = [
        {"first": "val/399", "first_split": "val", "second": f"test/{n}", "second_split": "test"} for n in range(9)
    ]
    table = pd.DataFrame([*known, *apart]).assign(confirmed=True)
    refuted = pd.DataFrame(known).assign(second="val/398", confirmed=False)
    pd.concat([table, refuted]).to_csv(tmp_path / "look_alikes.csv", index=False)
    assert list(findings([answered("val", 0.9, 400)], dataset(choose_on="tune"), tmp_path)) == (
        [told] if isinstance(told, str) else told
    )
