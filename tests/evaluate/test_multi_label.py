"""Figures of merit with several labels an image, against scikit-learn and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle
from torchmetrics.functional.classification import binary_calibration_error

from tasks.evaluate.scores import intervals
from tasks.evaluate.scores.calibration import gaps
from tasks.evaluate.scores.multi_label import MultiLabelScores, score_multi_label
from tasks.model.decisions import given_labels

NAMES = [f"c{index}" for index in range(6)]
FIGURES = {
    "average_precision_macro", "f1_macro", "f1_micro", "precision_macro", "recall_macro", "exact_match",
    "roc_auc_macro", "log_loss", "brier", "ece", "ace", "aurc",
}  # fmt: skip


def answers(images: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets float32 and well calibrated probabilities; the classes differ in how common they are."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (images, classes)) - np.linspace(0.5, 2, classes)
    probabilities = 1 / (1 + np.exp(-logits))
    return (random.random(probabilities.shape) < probabilities).astype(np.float32), probabilities.astype(np.float32)


def values(scores: MultiLabelScores) -> dict[str, float]:
    return {name: value for name, (value, _, _) in scores.metrics.items()}


@pytest.mark.parametrize("classes", [1, 2, 6])
@pytest.mark.filterwarnings("error")
def test_values_are_those_of_scikit_learn(classes: int) -> None:
    targets, probabilities = answers(700, classes)
    probabilities = probabilities.round(2)  # with ties, also at the threshold
    scores = score_multi_label(targets, probabilities, NAMES[:classes], resamples=100)
    true, exact = targets.astype(int), probabilities.astype(np.float64)
    given = exact >= 0.5
    wanted = {
        "average_precision_macro": oracle.average_precision_score(true, exact, average="macro"),
        "roc_auc_macro": oracle.roc_auc_score(true, exact, average="macro"),
        "exact_match": oracle.accuracy_score(true, given),
        "log_loss": np.mean([oracle.log_loss(true[:, c], exact[:, c]) for c in range(classes)]),
    }
    wanted["brier"] = np.mean([oracle.brier_score_loss(true[:, c], exact[:, c]) for c in range(classes)])
    flat = torch.tensor(exact.ravel()), torch.tensor(true.ravel())
    wanted["ece"] = float(binary_calibration_error(*flat, n_bins=15, norm="l1"))
    wanted["ace"] = float(np.abs(gaps(targets, exact, adaptive=True).mean(0)).sum())
    sure, wrong = np.maximum(exact, 1 - exact).prod(1), (given != true).any(1)
    wanted["aurc"] = np.mean([wrong[sure >= least].mean() for least in sure])
    for average in ("macro", "micro"):
        columns = (true[:, 0], given[:, 0]) if classes == 1 else (true, given)
        several = {"average": "binary"} if classes == 1 else {"average": average}
        precision, recall, f1, _ = oracle.precision_recall_fscore_support(*columns, **several, zero_division=0)
        wanted[f"f1_{average}"] = f1
        if average == "macro":
            wanted |= {"precision_macro": precision, "recall_macro": recall}
    assert set(scores.metrics) == FIGURES and values(scores) == pytest.approx(wanted)
    for name, (value, low, high) in scores.metrics.items():
        assert low < value < high and high - low < 0.25, name


def test_the_table_has_a_row_for_each_class() -> None:
    targets, probabilities = answers(400, 3)
    table = score_multi_label(targets, probabilities, NAMES[:3], resamples=100).per_class
    assert list(table.columns) == [
        "label", "images", "precision", "recall", "f1", "roc_auc", "average_precision",
    ]  # fmt: skip
    assert table["label"].tolist() == NAMES[:3] and table["images"].tolist() == targets.sum(0).tolist()
    for c, row in enumerate(table.itertuples()):
        true, scored = targets[:, c], probabilities[:, c]
        precision, recall, f1, _ = oracle.precision_recall_fscore_support(true, scored >= 0.5, average="binary")
        assert (row.precision, row.recall, row.f1) == pytest.approx((precision, recall, f1))
        assert row.roc_auc == pytest.approx(oracle.roc_auc_score(true, scored))
        assert row.average_precision == pytest.approx(oracle.average_precision_score(true, scored))


@pytest.mark.filterwarnings("error")
def test_a_class_without_images_is_left_out_of_the_means_and_one_of_all_images_has_no_roc() -> None:
    targets, probabilities = answers(200, 4)
    targets[:, 1], targets[:, 2] = 0, 1
    scores = score_multi_label(targets, probabilities, NAMES[:4], resamples=100)
    table = scores.per_class.set_index("label")
    assert table.loc["c1", ["precision", "recall", "f1", "roc_auc", "average_precision"]].isna().all()
    assert np.isnan(table.loc["c2", "roc_auc"]) and table.loc["c2", ["precision", "average_precision"]].tolist() == [
        1,
        1,
    ]
    kept = [0, 2, 3]
    alone = score_multi_label(targets[:, kept], probabilities[:, kept], [NAMES[c] for c in kept], resamples=100)
    for name in ("average_precision_macro", "f1_macro", "precision_macro", "recall_macro", "roc_auc_macro"):
        assert scores.metrics[name][0] == pytest.approx(alone.metrics[name][0]), name
        assert all(np.isfinite(scores.metrics[name])), name


@pytest.mark.filterwarnings("error")
def test_odd_splits_give_figures_not_warnings() -> None:
    empty, probabilities = np.zeros((20, 3), np.float32), answers(20, 3)[1]
    nobody = score_multi_label(empty, probabilities, NAMES[:3], resamples=100)
    assert np.isnan(nobody.metrics["average_precision_macro"]).all() and nobody.metrics["f1_micro"][0] == 0
    assert nobody.metrics["exact_match"][0] == pytest.approx((probabilities < 0.5).all(1).mean())
    sure = score_multi_label(empty + 1, empty + 1, NAMES[:3], resamples=100)
    for name in ("average_precision_macro", "f1_macro"):  # twenty images are not all images
        value, low, high = sure.metrics[name]
        assert value == high == 1 and 0.8 < low < 0.9
    assert sure.metrics["exact_match"][0] == 1 and sure.metrics["exact_match"][1] < 0.9
    assert np.isnan(sure.metrics["roc_auc_macro"]).all() and sure.metrics["log_loss"][0] == pytest.approx(0, abs=1e-9)
    wrong = score_multi_label(empty + 1, empty, NAMES[:3], resamples=100)
    assert np.isfinite(wrong.metrics["log_loss"]).all() and wrong.metrics["recall_macro"][0] == 0
    one = score_multi_label(np.array([[1, 0]]), np.array([[0.9, 0.6]]), NAMES[:2], resamples=100)
    assert one.metrics["recall_macro"][0] == 1 and one.metrics["exact_match"][0] == 0


def test_intervals_are_the_same_however_many_resamples_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, probabilities = answers(150, 3)
    whole = score_multi_label(targets, probabilities, NAMES[:3], resamples=300)
    monkeypatch.setattr(intervals, "TOGETHER", 7 * 150)
    parts = score_multi_label(targets, probabilities, NAMES[:3], resamples=300)
    for name, interval in whole.metrics.items():
        assert parts.metrics[name] == pytest.approx(interval), name


@pytest.mark.slow
def test_about_95_percent_of_the_intervals_cover_the_truth() -> None:
    truth = values(score_multi_label(*answers(200_000, 4, seed=1), NAMES[:4], resamples=1))
    covered = dict.fromkeys(FIGURES, 0)
    for seed in range(100):
        scores = score_multi_label(*answers(400, 4, seed=100 + seed), NAMES[:4], resamples=200, seed=seed)
        for name, (_, low, high) in scores.metrics.items():
            covered[name] += low <= truth[name] <= high
    assert all(88 <= count <= 100 for count in covered.values()), covered


def test_a_label_is_given_from_one_half_on() -> None:
    probabilities = np.array([[0.5, 0.499, 0.9], [0.1, 0.2, 0.3]], np.float32)
    assert given_labels(probabilities, ["x", "y", "z"]) == [["x", "z"], []]
