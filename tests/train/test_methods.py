"""What the methods on cached features compute, held against other ways to compute it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn import linear_model
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import normalize

from tasks.train import heads
from tasks.train.heads import Neighbours
from tasks.train.methods import METHODS
from tasks.train.methods.neighbours import KNearest
from tasks.train.methods.prototypes import Prototypes
from tasks.train.neighbours import COUNTS
from tasks.train.prototypes import cosine, euclidean
from tasks.train.ridge import ridge_path
from tasks.train.targets import Labelled, balanced_order, class_weights, loss_of, merit
from tests.train.prepared import Prepared


def clouds(count: int, width: int, classes: int = 3, spread: float = 3.0) -> Labelled:
    generator = torch.Generator().manual_seed(count + width)
    labels = torch.arange(count) % classes
    centres = torch.randn(classes, width, generator=generator)
    return centres[labels] + spread * torch.randn(count, width, generator=generator) + 2.0, labels


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("count", "width"), [(200, 12), (30, 80), (50, 50)])
def test_ridge_is_scikit_learns_at_every_strength(count: int, width: int, weighted: bool) -> None:
    features, labels = clouds(count, width)
    targets = torch.eye(3)[labels]
    weights = (torch.arange(count) % 4 + 0.5) if weighted else None
    total = count if weights is None else float(weights.sum())
    strengths = (1.0, 1e-2, 1e-4)
    for l2, (weight, bias) in zip(strengths, ridge_path(features, targets, strengths, weights), strict=True):
        oracle = linear_model.Ridge(alpha=l2 * total)
        oracle.fit(features.double(), targets.double(), None if weights is None else weights.double())
        assert np.abs(weight.numpy() - oracle.coef_).max() < 1e-4
        assert np.abs(bias.numpy() - oracle.intercept_).max() < 1e-3


@pytest.fixture
def voters() -> Neighbours:
    """Fifty examples of four classes, five of which vote."""
    features, labels = clouds(50, 6, classes=4)
    layer = Neighbours(6, 4, len(features))
    layer.examples.copy_(normalize(features, dim=1))
    layer.targets.copy_(torch.eye(4)[labels])
    layer.count.fill_(5)
    return layer


def votes_by_hand(layer: Neighbours, image: np.ndarray, count: int) -> np.ndarray:
    """Shares of the votes, one example after the other."""
    cosines = 1 - cdist(image[None], layer.examples.double().numpy(), "cosine")[0]
    shares = np.zeros(layer.targets.shape[1])
    for place in np.argsort(-cosines)[:count]:
        shares += np.exp(cosines[place] / Neighbours.SHARPNESS) * layer.targets[place].numpy()
    return shares / sum(np.exp(np.sort(cosines)[::-1][:count] / Neighbours.SHARPNESS))


@pytest.mark.parametrize("together", [None, 100])
def test_neighbours_vote_as_they_would_one_by_one(
    voters: Neighbours, together: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if together:
        monkeypatch.setattr(heads, "TOGETHER", together)  # two images at a time
    images = clouds(21, 6)[0]
    for count, shares in zip((1, 5, 50, 99), voters.votes(images, [1, 5, 50, 99]).exp(), strict=True):
        wanted = np.stack([votes_by_hand(voters, image, count) for image in images.double().numpy()])
        assert np.abs(shares.numpy() - wanted.clip(1e-3, 1 - 1e-3)).max() < 1e-4
    assert torch.equal(voters(images), voters.votes(images, [5])[0])


def test_neighbours_vote_on_each_of_several_labels(voters: Neighbours) -> None:
    voters.several = True
    voters.targets.copy_((torch.rand(50, 4, generator=torch.Generator().manual_seed(0)) < 0.4).float())
    images = clouds(21, 6)[0]
    wanted = np.stack([votes_by_hand(voters, image, 5) for image in images.double().numpy()])
    assert np.abs(voters(images).sigmoid().numpy() - wanted.clip(1e-3, 1 - 1e-3)).max() < 1e-4


def test_one_neighbour_is_scikit_learns(digits: Prepared, tmp_path: Path) -> None:
    task = digits.task(tmp_path)
    fit = KNearest(k=1).fit(task)
    x, inputs = (fit.head.standardised(part[0]).numpy() for part in (task.train, task.validation))
    oracle = KNeighborsClassifier(n_neighbors=1, metric="cosine").fit(x, task.train[1])
    assert (fit.head(task.validation[0]).argmax(1).numpy() == oracle.predict(inputs)).all()
    assert fit.score == oracle.score(inputs, task.validation[1])


def test_the_number_of_neighbours_is_the_best_on_validation(digits: Prepared, few: Prepared, tmp_path: Path) -> None:
    fit = KNearest().fit(digits.task(tmp_path))
    assert fit.curves["k"].tolist() == list(COUNTS)
    assert fit.score == fit.curves["validation/accuracy"].max()
    assert fit.head.layers.count == fit.chosen["k"] == fit.curves["k"][fit.curves["validation/accuracy"].argmax()]
    assert KNearest().fit(few.task(tmp_path)).curves["k"].max() == 50  # of 80 images


@pytest.mark.parametrize(("make", "metric"), [(euclidean, "euclidean"), (cosine, "cosine")])
def test_prototypes_give_the_nearest_mean(make, metric: str) -> None:
    features, labels = clouds(200, 9, classes=5)
    head = make((features, labels), 5)
    x = head.standardised(features)
    x = normalize(x, dim=1) if metric == "cosine" else x
    means = np.stack([x[labels == label].double().mean(0).numpy() for label in range(5)])
    distances = cdist(x.double().numpy(), means, metric)
    logits = head(features).detach()
    assert (logits.argmax(1).numpy() == distances.argmin(1)).all()
    if metric == "euclidean":
        oracle = NearestCentroid().fit(x.numpy(), labels.numpy())
        assert (logits.argmax(1).numpy() == oracle.predict(x.numpy())).all()
        torch.testing.assert_close(logits.softmax(1), torch.tensor(-(distances**2) / 9).softmax(1).float())
    else:
        torch.testing.assert_close(logits, torch.tensor(1 - distances).float())


def test_a_class_without_images_is_told_of_none() -> None:
    features, labels = clouds(200, 9, classes=5)
    for head in (euclidean((features, labels), 6), cosine((features, labels), 6)):
        assert (head(torch.cat([features, -features, features.mean(0, keepdim=True)])).argmax(1) != 5).all()


def test_prototypes_are_calibrated_unless_that_is_turned_off(digits: Prepared, tmp_path: Path) -> None:
    task = digits.task(tmp_path)
    heads = [Prototypes(calibrate=calibrate, distance="euclidean").fit(task).head for calibrate in (True, False)]
    assert heads[0].temperature != 1 and heads[1].temperature == 1
    assert torch.equal(heads[0].layers.weight, heads[1].layers.weight)


def test_prototypes_take_the_better_distance(digits: Prepared, tmp_path: Path) -> None:
    scores = {name: Prototypes(distance=name).fit(digits.task(tmp_path)).score for name in ("euclidean", "cosine")}
    fit = Prototypes().fit(digits.task(tmp_path))
    assert fit.score == max(scores.values()) and scores["euclidean"] != scores["cosine"]
    assert fit.chosen == {"cosine": float(scores["cosine"] > scores["euclidean"])}


@pytest.mark.parametrize("name", ["linear", "mlp", "ridge", "knn", "prototypes"])
def test_a_method_that_is_done_again_gives_the_same(name: str, few: Prepared, tmp_path: Path) -> None:
    first, second = (METHODS[name]().fit(few.task(tmp_path)) for _ in range(2))
    states = zip(first.head.state_dict().values(), second.head.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in states)


def test_weights_of_classes_are_scikit_learns() -> None:
    labels = torch.tensor([0] * 50 + [1] * 10 + [2] * 3)
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    np.testing.assert_allclose(class_weights(labels, 3), wanted, rtol=1e-6)
    assert class_weights(labels, 3)[labels].mean() == pytest.approx(1)
    assert class_weights(labels, 4).tolist() == [*class_weights(labels, 3).tolist(), 0.0]


def test_a_balanced_order_draws_every_class_as_often() -> None:
    labels = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    first, again, other = (balanced_order(labels, 4, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other) and len(first) == 1000
    counts = Counter(labels[first].tolist())
    assert all(abs(counts[label] - 1000 / 3) < 4 * (1000 * 2 / 9) ** 0.5 for label in range(3))


def test_the_merit_is_scikit_learns() -> None:
    logits = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    targets = (torch.rand(60, 4, generator=torch.Generator().manual_seed(1)) < 0.3).float()
    assert merit(logits, targets) == pytest.approx(average_precision_score(targets, logits, average="macro"))
    targets[:, 2] = 0  # no image has it, so nothing can be found
    there = [0, 1, 3]
    assert merit(logits, targets) == pytest.approx(average_precision_score(targets[:, there], logits[:, there]))
    assert merit(logits, torch.zeros(60, 4)) == 0
    assert merit(logits, logits.argmax(1)) == 1 and merit(logits, logits.argmin(1)) == 0


def test_a_training_that_diverged_has_a_merit_too() -> None:
    logits = torch.full((6, 2), torch.nan)
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(3, 1)
    assert merit(logits, targets) == pytest.approx(0.5) and merit(logits, targets.argmax(1)) == 0


def test_smoothing_spreads_a_share_of_the_target() -> None:
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 5
    spread = 0.8 * torch.eye(5)[labels] + 0.2 / 5
    wanted = -(spread * logits.log_softmax(1)).sum(1)
    torch.testing.assert_close(loss_of("class", 0.2)(logits, labels), wanted.mean())
    torch.testing.assert_close(loss_of("class")(logits, spread), wanted.mean())
    several = (logits.roll(1, 0) > 0).float()
    towards = 0.8 * several + 0.1
    wanted = -(towards * logits.sigmoid().log() + (1 - towards) * (-logits).sigmoid().log())
    torch.testing.assert_close(loss_of("labels", 0.2)(logits, several), wanted.mean())


def test_a_loss_with_weights_is_that_of_repeated_images() -> None:
    logits, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 0, 0, 1, 1])
    times = torch.tensor([1, 1, 1, 1, 2, 2])
    weighted = loss_of("class", weights=class_weights(labels, 3))(logits, labels)
    repeated = loss_of("class")(logits.repeat_interleave(times, 0), labels.repeat_interleave(times))
    torch.testing.assert_close(weighted, repeated)
