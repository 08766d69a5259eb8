"""Figures of merit against other libraries; intervals that cover what they should."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as oracle
from torchmetrics.functional.classification import multiclass_calibration_error

from tasks.evaluate.scores.calibration import calibration_interval, gaps
from tasks.evaluate.scores.intervals import Sample
from tasks.evaluate.scores.metrics import areas, score, top_hits


def predictions(images: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(classes, 0.4), images)
    labels = np.array([random.choice(classes, p=row) for row in probabilities])
    return labels, probabilities


def wanted(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """The figures by scikit-learn and TorchMetrics; macro ones over the classes that are there."""
    count, predicted = probabilities.shape[1], probabilities.argmax(1)
    there = np.unique(labels)
    precision, recall, f1, _ = oracle.precision_recall_fscore_support(
        labels, predicted, labels=there, average="macro", zero_division=0
    )
    columns = [(labels == c, probabilities[:, c]) for c in there]
    roc = columns if count > 2 else [(labels == 1, probabilities[:, 1])]
    mixed = [column for column in roc if 0 < column[0].sum() < len(labels)]
    ece = multiclass_calibration_error(torch.tensor(probabilities), torch.tensor(labels), count, n_bins=15, norm="l1")
    found = {
        "accuracy": oracle.accuracy_score(labels, predicted), "precision_macro": precision, "recall_macro": recall,
        "balanced_accuracy": recall, "f1_macro": f1,
        "roc_auc_macro": np.mean([oracle.roc_auc_score(*column) for column in mixed]) if mixed else np.nan,
        "average_precision_macro": np.mean([oracle.average_precision_score(*column) for column in columns]),
        "log_loss": oracle.log_loss(labels, probabilities, labels=range(count)),
        "brier": oracle.brier_score_loss(labels, probabilities, labels=range(count), scale_by_half=False),
        "ece": float(ece), "ace": adaptive(labels, probabilities), "aurc": risk_area(labels, probabilities),
    }  # fmt: skip
    if count > 5:
        found["top5_accuracy"] = oracle.top_k_accuracy_score(labels, probabilities, k=5, labels=range(count))
    return found


def adaptive(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The adaptive calibration error, as it is defined: no library has it."""
    order = probabilities.max(1).argsort()
    parts = np.array_split(order, 15) if len(order) % 15 == 0 else []
    right = probabilities.argmax(1) == labels
    if not parts:
        return float(np.abs(gaps(labels, probabilities, adaptive=True).mean(0)).sum())
    return sum(abs(right[part].mean() - probabilities.max(1)[part].mean()) * len(part) / len(order) for part in parts)


def risk_area(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean risk over all coverages, as it is defined."""
    sure, wrong = probabilities.max(1), probabilities.argmax(1) != labels
    return float(np.mean([wrong[sure >= least].mean() for least in sure]))


@settings(max_examples=25)
@given(classes=st.integers(2, 12), images=st.sampled_from([15, 30, 90, 300]), seed=st.integers(0, 10_000))
@pytest.mark.filterwarnings("error")
def test_values_are_those_of_scikit_learn_and_torchmetrics(classes: int, images: int, seed: int) -> None:
    """Also where classes have one image or none."""
    random = np.random.default_rng(seed)
    labels, probabilities = predictions(images, classes, seed)
    labels[labels == random.integers(classes)] = random.integers(classes)  # one is absent
    scores = score(labels, probabilities, [f"c{i}" for i in range(classes)], resamples=100)
    expected = wanted(labels, probabilities)
    assert set(scores.metrics) == set(expected)
    for name, value in expected.items():
        measured, low, high = scores.metrics[name]
        assert measured == pytest.approx(value, abs=1e-6, nan_ok=True), name
        assert np.isnan(value) or low - 1e-9 <= measured <= high + 1e-9, name
    assert np.array_equal(
        scores.confusion, oracle.confusion_matrix(labels, probabilities.argmax(1), labels=range(classes))
    )


@pytest.mark.parametrize("name", ["roc_auc_macro", "average_precision_macro"])
def test_the_influence_of_an_image_is_what_its_weight_changes_also_where_scores_are_equal(name: str) -> None:
    random = np.random.default_rng(0)
    true = random.random((150, 2)) < 0.3
    scored = np.round(random.random((150, 2)) + 0.2 * true, 1)
    figure = areas(true, scored)[name]
    by = oracle.roc_auc_score if name == "roc_auc_macro" else oracle.average_precision_score
    assert figure.value == pytest.approx(np.mean([by(true[:, c], scored[:, c]) for c in (0, 1)]))
    for image in range(0, 150, 15):
        weights = np.ones(150)
        weights[image] += 1e-5
        more = np.mean([by(true[:, c], scored[:, c], sample_weight=weights) for c in (0, 1)])
        assert figure.influence[image] == pytest.approx((more - figure.value) / 1e-5, rel=0.02, abs=5e-5)


def test_a_model_that_knows_nothing_is_right_in_the_first_five_as_often_as_chance() -> None:
    labels = np.arange(100) % 10
    assert top_hits(labels, np.full((100, 10), 0.1)).mean() == 0.5
    assert top_hits(labels, np.full((100, 10), 0.1), 1).tolist() == (labels == 0).tolist()


def test_two_hundred_classes_take_seconds() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 200, 5_000)
    shares = softmax(random.normal(size=(5_000, 200)) + 3 * np.eye(200)[labels], 1)
    began = time.process_time()
    score(labels, shares, [str(number) for number in range(200)])
    assert time.process_time() - began < 10


def overconfident(images: int, classes: int, scale: float, random: np.random.Generator) -> tuple:
    """Predictions whose logits are half as large again as they should be."""
    logits = random.normal(0, scale, (images, classes))
    labels = (softmax(logits, 1).cumsum(1) < random.random((images, 1))).sum(1).clip(0, classes - 1)
    return labels, softmax(1.5 * logits, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "scale", "images"), [(2, 4.0, 300), (4, 3.0, 400), (10, 3.0, 500)])
def test_about_95_percent_of_the_intervals_cover_the_truth(classes: int, scale: float, images: int) -> None:
    random = np.random.default_rng(classes)
    names = [str(number) for number in range(classes)]
    pool = overconfident(300_000, classes, scale, random)
    truth = {name: value for name, (value, _, _) in score(*pool, names, resamples=100).metrics.items()}
    covered = dict.fromkeys(truth, 0)
    for seed in range(1000):
        chosen = random.integers(len(pool[0]), size=images)
        metrics = score(pool[0][chosen], pool[1][chosen], names, resamples=150, seed=seed).metrics
        for name, (_, low, high) in metrics.items():
            covered[name] += low <= truth[name] <= high
    assert all(925 <= count <= 985 for count in covered.values()), covered
    # A calibration error is never below zero: over few images its interval is rather too wide than too narrow.
    for name in set(covered) - {"ece", "ace"}:
        assert 928 <= covered[name] <= 972, covered


@pytest.mark.parametrize("kind", ["ece", "ace"])
def test_of_a_well_calibrated_model_the_calibration_error_may_be_none(kind: str) -> None:
    random = np.random.default_rng(0)
    begins = 0
    for seed in range(100):
        labels, probabilities = predictions(300, 4, seed)
        by_image = gaps(labels, probabilities, adaptive=kind == "ace")
        value, low, high = calibration_interval(by_image, Sample(300), seed)
        begins += low == 0
        assert value <= high
    assert begins >= 93
    labels, probabilities = overconfident(1000, 4, 3.0, random)
    assert calibration_interval(gaps(labels, probabilities, kind == "ace"), Sample(1000))[1] > 0.03


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
