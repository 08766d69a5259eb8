"""Scores of features against labels, held against their definitions, spelt out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import Ridge

from tasks.errors import DataError
from tasks.evaluate.transferability.ranking import rank_intervals, ranking, ranking_figure, rate
from tasks.evaluate.transferability.sample import classes_of, draw_sample
from tasks.evaluate.transferability.scores import (
    STRENGTHS,
    Directions,
    h_score,
    log_me,
    n_leep,
    nearest_hits,
    probe_hits,
    shrink,
)
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.workspace import Workspace


def blobs(images: int, width: int, apart: float, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Normal features of each class around a centre of its own."""
    random = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    centres = random.normal(0, apart, (classes, width))
    return centres[labels] + random.normal(0, 1, (images, width)) + 0.5, labels


def evidence(features: np.ndarray, target: np.ndarray, alpha: float, beta: float) -> float:
    """Of a linear model with a prior of precision alpha and noise of precision beta, as Bishop (2006), eq. 3.86."""
    images, width = features.shape
    precision = alpha * np.eye(width) + beta * features.T @ features
    weights = beta * np.linalg.solve(precision, features.T @ target)
    fit = beta * ((target - features @ weights) ** 2).sum() + alpha * weights @ weights
    whole = width * np.log(alpha) + images * np.log(beta) - fit - np.linalg.slogdet(precision)[1]
    return float((whole - images * np.log(2 * np.pi)) / 2 / images)


@pytest.mark.parametrize("width", [4, 60])
def test_log_me_is_the_largest_evidence_there_is(width: int) -> None:
    features, labels = blobs(40, width, 1.0)
    grid = np.logspace(-4, 4, 60)
    best = [
        max(evidence(features, (labels == label) * 1.0, alpha, beta) for alpha in grid for beta in grid[25:55:2])
        for label in range(3)
    ]
    assert np.mean(best) - 1e-3 <= log_me(features, labels) <= np.mean(best) + 0.03


@pytest.mark.parametrize("width", [5, 80])
def test_the_h_score_is_the_trace_with_scikit_learns_shrunk_covariance(width: int) -> None:
    features, labels = blobs(60, width, 0.7)
    covariance, shrinkage = ledoit_wolf(features)
    means = np.stack([features[labels == label].mean(0) for label in labels]) - features.mean(0)
    between = means.T @ means / len(labels)
    expected = (1 - shrinkage) * np.trace(np.linalg.solve(covariance, between))
    assert h_score(features, labels) == pytest.approx(expected, rel=1e-6)
    assert shrink(Directions.of(features - features.mean(0)), 60)[0] == pytest.approx(shrinkage, rel=1e-6)


@pytest.mark.parametrize("width", [5, 50])
def test_the_probe_is_a_ridge_regression_on_all_other_images(width: int) -> None:
    features, labels = blobs(40, width, 0.6)
    scaled = (features - features.mean(0)) / features.std(0)
    unit = (Directions.of(scaled).scale ** 2).mean()
    targets, counts = np.eye(3)[labels], []
    for strength in STRENGTHS * unit:
        hits = []
        for image in range(40):
            others = np.arange(40) != image
            fit = Ridge(strength).fit(scaled[others], targets[others])
            hits.append(fit.predict(scaled[[image]]).argmax() == labels[image])
        counts.append(np.array(hits))
    best = max(counts, key=np.sum)
    # Scaling and centring see the image that is left out, and its strength counts for one image more.
    assert abs(int(probe_hits(features, labels).sum()) - int(best.sum())) <= 2


def test_neighbours_vote_and_an_image_is_none_of_its_own() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 0])
    features = np.array([[1, 0.0], [1, 0.1], [1, -0.1], [-1, 0.0], [-1, 0.1], [-1, -0.1], [-1, 0.05]])
    assert nearest_hits(features, labels, 3).tolist() == [True] * 6 + [False]


def test_leep_of_clusters_is_sure_where_clusters_are_classes_and_chance_where_labels_are_drawn() -> None:
    features, labels = blobs(300, 6, 6.0)
    assert n_leep(features, labels) > -0.05
    drawn = np.random.default_rng(1).integers(0, 3, 300)
    assert n_leep(features, drawn) == pytest.approx(-np.log(3), abs=0.2)


@pytest.mark.parametrize("score", [log_me, h_score, n_leep, nearest_hits, probe_hits])
def test_features_that_tell_more_score_more(score) -> None:  # type: ignore[no-untyped-def]
    values = [np.mean(score(*blobs(150, 200, apart))) for apart in (0.0, 0.3, 1.0)]
    assert values == sorted(values) and values[0] < values[2]


def test_ties_look_like_ties_and_what_is_worse_does_not() -> None:
    random = np.random.default_rng(0)
    good = random.random(400) < 0.9
    alike = good.copy()
    alike[np.flatnonzero(good)[:4]], alike[np.flatnonzero(~good)[:4]] = False, True
    best, worst = rank_intervals(np.stack([good, alike, random.random(400) < 0.6]))
    assert best.tolist() == [1, 1, 3] and worst.tolist()[2] == 3 and max(worst[:2]) == 2
    # Of two groups of images, one says nothing of the other.
    halves = np.arange(400) // 200
    best, worst = rank_intervals(np.stack([halves == 0, halves == 1]), halves)
    assert best.tolist() == [1, 1] and worst.tolist() == [2, 2]


def test_the_table_begins_with_the_best_and_marks_what_none_beats_in_score_and_time() -> None:
    (good, labels), (poor, _) = blobs(120, 20, 1.0), blobs(120, 20, 0.1)
    rated = [
        rate("slow and poor", poor, labels, 9.0),
        rate("fast and poor", poor, labels, 1.0),
        rate("good", good, labels, 5.0),
    ]
    table = ranking(rated)
    assert list(table["backbone"]) == ["good", "fast and poor", "slow and poor"]
    assert list(table["pareto"]) == [True, True, False] and list(table["ties"]) == [True, False, False]
    assert (table["probe_low"] < table["probe"]).all() and (table["probe"] < table["probe_high"]).sum() >= 2
    assert ranking_figure(table, "Backbones").get_axes()[0].get_xscale() == "log"


def test_a_sample_has_as_many_of_each_class_and_nothing_that_is_held_out(workspace: Workspace) -> None:
    dataset = ingest_images(IngestConfig(), workspace)
    manifest = dataset.read_manifest()
    sample = draw_sample(dataset, 60, workspace)
    rows = sample.read_manifest()
    counts = rows["label"].value_counts()
    assert len(rows) == sample.counts["train"] == 60 and counts.max() - counts.min() <= 1
    assert set(rows["path"]) <= set(manifest.loc[manifest["split"].isin(("train", "tune")), "path"])
    assert draw_sample(dataset, 60, workspace).fingerprint == sample.fingerprint != dataset.fingerprint
    assert sorted(set(classes_of(rows))) == list(range(len(counts)))
    everything = draw_sample(dataset, 10**6, workspace).read_manifest()
    assert len(everything) == manifest["split"].isin(("train", "tune")).sum()

    manifest[manifest["label"] == manifest["label"].iloc[0]].to_parquet(workspace.root / "one.parquet")
    with pytest.raises(DataError, match="two classes or more"):
        draw_sample(dataset.model_copy(update={"manifest": workspace.root / "one.parquet"}), 60, workspace)
