"""Figures of merit against other libraries; intervals that cover what they should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle
from torchmetrics.functional.classification import multiclass_calibration_error

from tasks.evaluate.metrics import score, weighted_areas


def predictions(images: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(classes, 0.4), images)
    labels = np.array([random.choice(classes, p=row) for row in probabilities])
    return labels, probabilities


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.filterwarnings("error")
def test_values_are_those_of_scikit_learn_and_torchmetrics(classes: int) -> None:
    labels, probabilities = predictions(800, classes)
    scores = score(labels, probabilities, [f"c{i}" for i in range(classes)], resamples=100)
    predicted = probabilities.argmax(1)
    precision, recall, f1, _ = oracle.precision_recall_fscore_support(
        labels, predicted, average="macro", zero_division=0
    )
    area = (
        oracle.roc_auc_score(labels, probabilities[:, 1])
        if classes == 2
        else oracle.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    )
    ece = multiclass_calibration_error(torch.tensor(probabilities), torch.tensor(labels), classes, n_bins=15, norm="l1")
    wanted = {
        "accuracy": oracle.accuracy_score(labels, predicted), "precision_macro": precision, "recall_macro": recall,
        "f1_macro": f1, "roc_auc_macro": area, "log_loss": oracle.log_loss(labels, probabilities), "ece": float(ece),
    }  # fmt: skip
    assert set(scores.metrics) == set(wanted)
    for name, value in wanted.items():
        measured, low, high = scores.metrics[name]
        assert measured == pytest.approx(value, abs=1e-6), name
        assert low <= high and high - low < 0.4, name
    assert np.array_equal(scores.confusion, oracle.confusion_matrix(labels, predicted))


def test_weighted_areas_are_those_of_scikit_learn_also_where_scores_are_equal() -> None:
    random = np.random.default_rng(0)
    positive = random.random(300) < 0.3
    scored = np.round(random.random(300) + 0.2 * positive, 1)
    weights = random.integers(0, 3, (4, 300)).astype(float)
    measured = weighted_areas(positive, scored, weights)
    for values, wanted in zip(measured, (oracle.roc_auc_score, oracle.average_precision_score), strict=True):
        assert values == pytest.approx([wanted(positive, scored, sample_weight=row) for row in weights])


@pytest.mark.filterwarnings("error")
def test_areas_of_one_side_only_are_undefined() -> None:
    weights = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
    areas, precise = weighted_areas(np.array([True, True, False]), np.array([0.2, 0.9, 0.5]), weights)
    assert np.isnan(areas).all() and precise[0] == 1 and np.isnan(precise[1])


@pytest.mark.slow
def test_about_95_percent_of_the_intervals_cover_the_truth() -> None:
    _, probabilities = predictions(40_000, 4, seed=1)
    truth = probabilities.max(1).mean()  # of a calibrated model
    covered = {"accuracy": 0, "recall_macro": 0}
    for seed in range(100):
        random = np.random.default_rng(seed)
        chosen = probabilities[random.integers(len(probabilities), size=300)]
        labels = np.array([random.choice(4, p=row) for row in chosen])
        scores = score(labels, chosen, list("abcd"), resamples=200, seed=seed)
        for name in covered:
            _, low, high = scores.metrics[name]
            covered[name] += low <= truth <= high
    assert all(88 <= count <= 100 for count in covered.values()), covered


@pytest.mark.filterwarnings("error")
def test_odd_splits_give_figures_not_warnings() -> None:
    one = score(np.array([1]), np.array([[0.3, 0.7]]), ["a", "b"], resamples=100)
    assert one.metrics["accuracy"][0] == 1 and np.isnan(one.metrics["roc_auc_macro"][0])
    labels, probabilities = predictions(50, 3)
    labels[labels == 2] = 0
    scores = score(labels, probabilities, ["a", "b", "nobody"], resamples=100)
    assert scores.per_class.set_index("label").loc["nobody", ["recall", "f1", "roc_auc"]].isna().all()
    kept = scores.per_class["recall"].dropna()
    assert scores.metrics["recall_macro"][0] == pytest.approx(kept.mean()) and len(kept) == 2
    constant = score(labels, np.full((50, 3), 1 / 3), ["a", "b", "c"], resamples=100)
    assert constant.metrics["roc_auc_macro"][0] == pytest.approx(0.5)
