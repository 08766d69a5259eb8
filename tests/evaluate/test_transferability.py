"""Scores of features against labels, held against their definitions, spelt out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score

from flows.commands.backbones import ranking_table
from tasks.errors import ConfigurationError, DataError
from tasks.evaluate.transferability.left_out import STRENGTHS, merit, neighbours, probe, share, votes
from tasks.evaluate.transferability.ranking import rank_intervals, ranking, ranking_figure, rate
from tasks.evaluate.transferability.rating import cost_of, rate_backbone
from tasks.evaluate.transferability.sample import draw_sample, telling
from tasks.evaluate.transferability.scores import Directions, h_score, indicators, log_me, n_leep, shrink
from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.preprocess.config import PreprocessConfig
from tasks.preprocess.door import preview_recipe
from tasks.records import Dataset
from tasks.target import one_task
from tasks.workspace import Workspace


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def digits(home: Workspace) -> Dataset:
    return ingest_images(IngestConfig(), home, into_data=False)


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
    assert h_score(Directions.around(features), labels) == pytest.approx(expected, rel=1e-6)
    assert shrink(Directions.around(features), 60)[0] == pytest.approx(shrinkage, rel=1e-6)


def left_out(features: np.ndarray, targets: np.ndarray, groups: np.ndarray) -> float:
    """What the best of ridge regressions that have not learned from an image's group come to, fitted one by one."""
    scaled = (features - features.mean(0)) / features.std(0)
    unit = (Directions.of(scaled).scale ** 2).mean()
    wanted = indicators(targets)
    values = []
    for strength in STRENGTHS * unit:
        answers = np.empty_like(wanted)
        for group in np.unique(groups):
            others = groups != group
            fit = Ridge(strength).fit(scaled[others], wanted[others])
            answers[~others] = fit.predict(scaled[~others])
        if targets.ndim == 2:
            values.append(average_precision_score(targets, answers, average="macro"))
        else:
            values.append(np.mean(answers.argmax(1) == targets))
    return float(max(values))


@pytest.mark.parametrize("width", [5, 50])
def test_the_probe_is_a_ridge_regression_on_all_other_images(width: int) -> None:
    features, labels = blobs(40, width, 0.6)
    few = np.flatnonzero((labels < 2) | (np.arange(40) % 2 == 0))  # of one class, half as many
    features, labels = features[few], labels[few]
    # Only scaling and centring see the image that is left out.
    assert probe(features, labels).value == pytest.approx(left_out(features, labels, np.arange(len(few))), abs=1e-9)


@pytest.mark.parametrize("width", [5, 50])
def test_images_of_a_group_are_left_out_together(width: int) -> None:
    features, labels = blobs(40, width, 0.6)
    groups = np.arange(40) // 4
    features += np.random.default_rng(1).normal(0, 2, (10, width))[groups]  # by which a group gives itself away
    assert probe(features, labels, groups).value == pytest.approx(left_out(features, labels, groups), abs=1e-9)
    alone = np.zeros(40, np.int64)  # nothing else to learn from: one by one, then
    assert probe(features, labels, alone).value == probe(features, labels).value


def test_neighbours_vote_and_an_image_is_none_of_its_own() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 0])
    features = np.array([[1, 0.0], [1, 0.1], [1, -0.1], [-1, 0.0], [-1, 0.1], [-1, -0.1], [-1, 0.05]])
    assert (votes(features, labels, count=3).argmax(1) == labels).tolist() == [True] * 6 + [False]
    assert neighbours(features, labels, count=3) == pytest.approx(6 / 7)
    # The last three of a group: only the others vote for them.
    groups = np.array([0, 1, 2, 3, 4, 4, 4])
    assert votes(features, labels, groups, count=1).argmax(1).tolist()[4:] == [1, 1, 1]


def test_leep_of_clusters_is_sure_where_clusters_are_classes_and_chance_where_labels_are_drawn() -> None:
    features, labels = blobs(300, 6, 6.0)
    assert n_leep(Directions.around(features), labels) > -0.05
    drawn = np.random.default_rng(1).integers(0, 3, 300)
    assert n_leep(Directions.around(features), drawn) == pytest.approx(-np.log(3), abs=0.2)


SCORES = ("probe", "neighbours", "log_me", "h_score", "n_leep")


def scores(features: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """What a row of a ranking says."""
    found = rate("it", features, targets, 1.0)
    return {score: found.probe.value if score == "probe" else getattr(found, score) for score in SCORES}


def test_features_that_tell_more_score_more() -> None:
    low, middle, high = (scores(*blobs(150, 200, apart)) for apart in (0.0, 0.3, 1.0))
    assert all(low[score] <= middle[score] <= high[score] != low[score] for score in SCORES)


def test_scores_do_not_depend_on_the_unit_of_the_features() -> None:
    features, labels = blobs(150, 20, 0.5)
    large, small = (scores(unit * features, labels) for unit in (1.0, 0.01))
    assert small["n_leep"] == pytest.approx(large["n_leep"], abs=1e-6)
    assert small["neighbours"] == large["neighbours"]


@pytest.mark.parametrize(
    ("features", "what"), [(np.ones((30, 4)), "the same features"), (np.full((30, 4), np.nan), "no numbers")]
)
def test_features_that_tell_nothing_are_one_clear_error(features: np.ndarray, what: str) -> None:
    with pytest.raises(DataError, match=f"dead gives .*{what}"):
        rate("dead", features, np.arange(30) % 3, 1.0)


def several(images: int, width: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    """Features that tell of three labels, each independent of the others and half as frequent as the one before."""
    random = np.random.default_rng(0)
    targets = random.random((images, 3)) < [0.5, 0.25, 0.125]
    directions = random.normal(0, apart, (3, width))
    return targets @ directions + random.normal(0, 1, (images, width)), targets


def test_so_do_features_of_images_that_have_several_labels() -> None:
    low, middle, high = (scores(*several(200, 60, apart)) for apart in (0.0, 0.3, 1.0))
    assert all(low[score] <= middle[score] <= high[score] != low[score] for score in SCORES[:-1])


def test_with_several_labels_each_is_scored_as_two_classes_and_counts_alike() -> None:
    features, targets = several(40, 12, 0.5)
    apart = [targets[:, label].astype(np.int64) for label in range(3)]
    found = Directions.around(features)
    assert h_score(found, targets) == pytest.approx(np.mean([h_score(found, each) for each in apart]))
    # Evidence for who has a label is not evidence for who has it not: without an intercept these are two regressions.
    assert log_me(features, targets) == pytest.approx(
        np.mean([log_me(features, targets[:, [label]]) for label in range(3)])
    )
    assert probe(features, targets).value == pytest.approx(left_out(features, targets, np.arange(40)), abs=1e-9)
    groups = np.arange(40) // 3
    assert probe(features, targets, groups).value == pytest.approx(left_out(features, targets, groups), abs=1e-9)
    given = votes(features, targets)
    assert neighbours(features, targets) == pytest.approx(average_precision_score(targets, given, average="macro"))


def test_a_ranking_of_several_labels_says_what_is_measured_and_what_is_not() -> None:
    (good, targets), (poor, _) = several(120, 20, 1.0), several(120, 20, 0.1)
    table = ranking([rate("poor", poor, targets, 1.0), rate("good", good, targets, 5.0)])
    assert list(table["backbone"]) == ["good", "poor"] and set(table["merit"]) == {"average precision"}
    assert list(table["ties"]) == [True, False] and table["n_leep"].isna().all()
    assert ((table["probe_low"] < table["probe"]) & (table["probe"] < table["probe_high"])).all()
    assert "average precision" in ranking_figure(table, "Backbones").get_axes()[0].get_ylabel()
    assert [list(column.cells) for column in ranking_table(table).columns if column.header == "NLEEP"] == [["n/a"] * 2]


def test_ties_look_like_ties_and_what_is_worse_does_not() -> None:
    random = np.random.default_rng(0)
    good = random.random(400) < 0.9
    alike = good.copy()
    alike[np.flatnonzero(good)[:4]], alike[np.flatnonzero(~good)[:4]] = False, True
    best, worst = rank_intervals([share(each) for each in (good, alike, random.random(400) < 0.6)])
    assert best.tolist() == [1, 1, 3] and worst.tolist()[2] == 3 and max(worst[:2]) == 2
    # Of two groups of images, one says nothing of the other.
    halves = np.arange(400) // 200
    best, worst = rank_intervals([share(halves == 0), share(halves == 1)], halves)
    assert best.tolist() == [1, 1] and worst.tolist() == [2, 2]


def test_ranks_vary_with_several_labels_as_they_do_where_the_figures_are_computed_anew() -> None:
    features, targets = several(300, 20, 0.4)
    parts = [features[:, :width] for width in (20, 16, 6)]
    answers = [part @ np.linalg.lstsq(part, targets * 1.0, rcond=None)[0] for part in parts]
    best, worst = rank_intervals([merit(each, targets) for each in answers])
    random = np.random.default_rng(0)
    ranks = []
    for _ in range(300):
        drawn = random.integers(0, 300, 300)
        values = np.array([merit(each[drawn], targets[drawn]).value for each in answers])
        ranks.append(1 + (values > values[:, None]).sum(1))
    low, high = np.percentile(ranks, [2.5, 97.5], axis=0, method="inverted_cdf")
    assert best.tolist() == low.tolist() and worst.tolist() == high.tolist()


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


def test_a_sample_has_as_many_of_each_class_and_nothing_that_is_held_out(digits: Dataset, home: Workspace) -> None:
    manifest = digits.read_manifest()
    number = digits.model_copy(update={"targets": (digits.target.model_copy(update={"kind": "number"}),)})
    with pytest.raises(ConfigurationError, match="is a number"):
        draw_sample(number, 60, home)
    sample = draw_sample(digits, 60, home)
    rows = sample.read_manifest()
    counts = rows["label"].value_counts()
    assert len(rows) == sample.counts["train"] == 60 and counts.max() - counts.min() <= 1
    assert set(rows["path"]) <= set(manifest.loc[manifest["split"].isin(("train", "tune")), "path"])
    assert draw_sample(digits, 60, home).fingerprint == sample.fingerprint != digits.fingerprint
    everything = draw_sample(digits, 10**6, home).read_manifest()
    assert len(everything) == manifest["split"].isin(("train", "tune")).sum()

    manifest[manifest["label"] == manifest["label"].iloc[0]].to_parquet(home.root / "one.parquet")
    with pytest.raises(DataError, match="two classes or more"):
        draw_sample(digits.model_copy(update={"manifest": home.root / "one.parquet"}), 60, home)


def with_labels(digits: Dataset, labels: Sequence[str | list[str]], several: bool, home: Workspace) -> Dataset:
    """Some digits with other labels, all of them to learn from."""
    rows = some(digits, len(labels)).assign(label=list(labels), split="train")
    rows.to_parquet(path := home.root / "labelled.parquet")
    classes = tuple(sorted({name for label in labels for name in (label if several else [label])}))
    return digits.model_copy(update={"manifest": path, "targets": one_task(tuple(classes), several)})


def some(digits: Dataset, count: int) -> pd.DataFrame:
    return digits.read_manifest().sample(count, random_state=0)


def test_a_sample_of_several_labels_has_the_rare_ones_and_images_without_any(digits: Dataset, home: Workspace) -> None:
    labels = [["common"] * (place % 10 > 0) + ["rare"] * (place % 100 < 3) for place in range(300)]
    rows = draw_sample(with_labels(digits, labels, True, home), 30, home).read_manifest()
    has = [set(each) for each in rows["label"]]
    assert len(rows) == 30 and sum("rare" in each for each in has) == 9 and sum(not each for each in has) >= 10
    with pytest.raises(DataError, match="three have not"):
        draw_sample(with_labels(digits, [["common"]] * 298 + [[]] * 2, True, home), 30, home)


def test_a_backbone_is_rated_by_a_sample_of_several_labels(digits: Dataset, home: Workspace) -> None:
    numbers = some(digits, 120)["label"].astype(int)
    labels = [["odd"] * (digit % 2) + ["large"] * (digit > 4) + ["all"] for digit in numbers]
    sample = draw_sample(with_labels(digits, labels, True, home), 100, home)
    preprocessed = preview_recipe(PreprocessConfig(), sample, home)
    features = extract_features(ExtractConfig(compile="never"), sample, preprocessed, home, ("train",))
    rated = rate_backbone("resnet_32px", sample, preprocessed, features, home)
    assert rated.merit == "average precision" and rated.width == 512 and rated.milliseconds > 0
    shares = [np.mean([label in each for each in sample.read_manifest()["label"]]) for label in ("odd", "large")]
    assert np.mean(shares) + 0.1 < rated.probe.value <= 1 and len(rated.probe.influence) == 100


def test_the_cost_of_an_image_is_up_to_the_layer_at_its_size_and_of_all_its_views(
    digits: Dataset, home: Workspace
) -> None:
    sample = draw_sample(digits, 20, home)

    def cost(layer: str | None, **looked_at: Any) -> tuple[int, int]:
        preprocessed = preview_recipe(PreprocessConfig(**looked_at), sample, home)
        config = ExtractConfig(layer=layer, compile="never")
        features = extract_features(config, sample, preprocessed, home, ("train",))
        return cost_of(sample, preprocessed, features, home)[1:]

    operations, parameters = cost(None)
    fewer, fewer_parameters = cost("blocks.1")
    assert 0 < fewer < operations and 0 < fewer_parameters < parameters
    assert cost(None, views="ten") == (10 * operations, parameters)
    assert cost(None, size=64)[0] == pytest.approx(4 * operations, rel=0.05)


def test_of_many_classes_so_many_are_drawn_that_each_has_several_images(digits: Dataset, home: Workspace) -> None:
    many = with_labels(digits, [f"class {place % 100}" for place in range(1_000)], False, home)
    counts = draw_sample(many, 100, home).read_manifest()["label"].value_counts()
    assert len(counts) == 20 and (counts == 5).all()


def test_classes_that_tell_no_images_apart_are_left_out() -> None:
    assert telling(np.array([4, 2, 2, 7])).tolist() == [1, 0, 0, 2]
    columns = telling(np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]]))
    assert columns.dtype == bool and columns.tolist() == [[True], [False]]
