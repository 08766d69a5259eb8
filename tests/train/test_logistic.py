"""The path of logistic regressions: scikit-learn's minima, whatever the features are like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import binary_cross_entropy, cross_entropy

from tasks.errors import DataError
from tasks.train import logistic
from tasks.train.lbfgs import Descent, Stop
from tasks.train.logistic import ROUGH, TOLERANCE, Regression, Solutions, measure, solve
from tasks.train.targets import class_weights

PATH = (1.0, 0.1, 1e-2, 1e-3)


def clouds(
    count: int, width: int, classes: int, seed: int = 0, spread: float = 3.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping classes, standardised."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    features = torch.randn(classes, width, generator=generator)[labels]
    return standardised(features + spread * torch.randn(count, width, generator=generator)), labels


def standardised(features: torch.Tensor) -> torch.Tensor:
    deviation = features.std(0, correction=0)
    return (features - features.mean(0)) / torch.where(deviation > 1e-6, deviation, 1.0)


def exactly(
    weights: np.ndarray | torch.Tensor, biases: np.ndarray | torch.Tensor, features: torch.Tensor,
    labels: torch.Tensor, l2: float, shares: torch.Tensor | None = None,
) -> tuple[float, float]:  # fmt: skip
    """Objective and the largest entry of its gradient, by autograd in float64."""
    unknowns = [torch.as_tensor(part, dtype=torch.float64).clone().requires_grad_() for part in (weights, biases)]
    losses = cross_entropy(features.double() @ unknowns[0].T + unknowns[1], labels, reduction="none")
    shares = torch.ones(len(labels)) if shares is None else shares
    objective = (losses * shares).sum() / shares.double().sum() + l2 / 2 * unknowns[0].square().sum()
    objective.backward()
    return objective.item(), max(float(part.grad.abs().max()) for part in unknowns if part.grad is not None)


def check(
    features: torch.Tensor, labels: torch.Tensor, classes: int, path: Sequence[float] = PATH,
    shares: torch.Tensor | None = None,
) -> Solutions:  # fmt: skip
    """Solve, and hold the solutions against the definition and against scikit-learn."""
    found = solve(features, labels, classes, path, shares)
    assert found.converged.all()
    total = float(len(labels) if shares is None else shares.double().sum())
    for at, l2 in enumerate(path):
        value, gradient = exactly(found.weights[at], found.biases[at], features, labels, l2, shares)
        assert gradient <= 1.1 * TOLERANCE
        assert found.objectives[at].item() == pytest.approx(value, rel=1e-5, abs=1e-7)
        # scikit-learn fits one weight vector for two classes; ours are two opposite ones, each half as long.
        oracle = LogisticRegression(
            C=(2 if classes == 2 else 1) / (l2 * total), solver="newton-cholesky", tol=1e-8, max_iter=1000
        ).fit(features.double().numpy(), labels.numpy(), None if shares is None else shares.numpy())
        wanted = oracle.predict_proba(features.double().numpy())
        predicted = (features @ found.weights[at].T + found.biases[at]).softmax(1).numpy()
        assert np.abs(predicted - wanted).max() < 5e-3
        theirs = [oracle.coef_, oracle.intercept_]
        if classes == 2:
            theirs = [np.concatenate([-half, half]) for half in (oracle.coef_ / 2, oracle.intercept_ / 2)]
        assert value <= exactly(theirs[0], theirs[1], features, labels, l2, shares)[0] + 1e-5
    return found


@pytest.mark.parametrize("classes", [2, 5])
def test_the_minima_are_scikit_learns(classes: int) -> None:
    found = check(*clouds(300, 12, classes), classes)
    assert found.passes.max() < 40


def test_features_that_nearly_repeat_each_other() -> None:
    features, labels = clouds(400, 5, 3)
    mixing = torch.randn(5, 40, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(400, 40, generator=torch.Generator().manual_seed(2))
    check(standardised(features @ mixing + 1e-3 * noise), labels, 3)


def test_features_that_are_not_standardised() -> None:
    features, labels = clouds(300, 6, 3)
    check(features * torch.logspace(-2, 1, 6) + torch.linspace(-3, 3, 6), labels, 3)


def test_constant_features_stay_out_of_it() -> None:
    features, labels = clouds(200, 6, 3)
    features[:, 2] = 0
    assert check(features, labels, 3).weights[:, :, 2].abs().max() < 1e-6


@pytest.mark.parametrize(("count", "width"), [(4, 500), (30, 200), (60, 61)])
def test_fewer_images_than_features(count: int, width: int) -> None:
    check(*clouds(count, width, 2), 2)


def test_more_features_and_images_than_are_decomposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "DECOMPOSED", 8)
    check(*clouds(100, 20, 3), 3)
    check(*clouds(20, 50, 3), 3)


def test_classes_that_a_plane_divides_at_hardly_any_regularisation() -> None:
    features, labels = clouds(200, 30, 4, spread=0.3)
    found = solve(features, labels, 4, [1e-5, 1e-6])
    assert found.converged.all()
    for at, l2 in enumerate([1e-5, 1e-6]):
        value, gradient = exactly(found.weights[at], found.biases[at], features, labels, l2)
        oracle = LogisticRegression(C=1 / (l2 * 200), tol=1e-6, max_iter=10_000).fit(features.double(), labels)
        assert value < exactly(oracle.coef_, oracle.intercept_, features, labels, l2)[0] + 1e-4
        assert gradient <= 1.1 * TOLERANCE


def test_a_class_without_images_is_given_no_chance() -> None:
    features, labels = clouds(300, 8, 3)
    four, three = solve(features, labels, 4, PATH), check(features, labels, 3)
    logits = features @ four.weights.mT + four.biases[:, None]
    assert four.converged.all() and logits.softmax(2)[:, :, 3].mean() < 1e-4
    without = (features @ three.weights.mT + three.biases[:, None]).softmax(2)
    assert (logits.softmax(2)[:, :, :3] - without).abs().max() < 1e-3


def test_weights_are_scikit_learns_sample_weights_and_mean_repetition() -> None:
    features, labels = clouds(150, 7, 3)
    shares = (torch.arange(150) % 4).float()
    weighted = check(features, labels, 3, shares=shares)
    times = shares.long()
    repeated = solve(features.repeat_interleave(times, 0), labels.repeat_interleave(times), 3, PATH)
    assert torch.allclose(weighted.weights, repeated.weights, atol=2e-3)
    assert torch.allclose(weighted.objectives, repeated.objectives, atol=1e-6)


def test_weights_of_classes_are_scikit_learns_balanced_ones() -> None:
    features, labels = clouds(300, 6, 3, spread=4.0)
    kept = (labels != 2) | (torch.arange(300) % 5 == 0)
    features, labels = standardised(features[kept]), labels[kept]
    found = solve(features, labels, 3, PATH, class_weights(labels, 3)[labels])
    for at, l2 in enumerate(PATH):
        oracle = LogisticRegression(
            C=1 / (l2 * len(labels)), class_weight="balanced", solver="newton-cholesky", tol=1e-8, max_iter=1000
        ).fit(features.double().numpy(), labels.numpy())
        predicted = (features @ found.weights[at].T + found.biases[at]).softmax(1).numpy()
        assert np.abs(predicted - oracle.predict_proba(features.double().numpy())).max() < 5e-3


@pytest.mark.parametrize(("count", "width"), [(300, 8), (40, 90)])
def test_with_several_labels_an_image_each_class_has_scikit_learns_minimum(count: int, width: int) -> None:
    features, labels = clouds(count, width, 4)
    also = torch.rand(count, 5, generator=torch.Generator().manual_seed(1)) < 0.3
    targets = (also | (labels[:, None] == torch.arange(5))).float()
    targets[:, 3] = 0  # a class that no image has
    found = solve(features, targets, 5, PATH)
    assert found.converged.all()
    for at, l2 in enumerate(PATH):
        predicted = (features @ found.weights[at].T + found.biases[at]).sigmoid()
        assert predicted[:, 3].max() < 1e-3
        for label in (0, 1, 2, 4):
            oracle = LogisticRegression(C=1 / (l2 * count), solver="newton-cholesky", tol=1e-8, max_iter=1000)
            wanted = oracle.fit(features.double().numpy(), targets[:, label].numpy())
            theirs = wanted.predict_proba(features.double().numpy())[:, 1]
            assert np.abs(predicted[:, label].numpy() - theirs).max() < 5e-3
        loss = 5 * binary_cross_entropy(predicted.double(), targets.double())
        value = loss + l2 / 2 * found.weights[at].double().square().sum()
        assert found.objectives[at].item() == pytest.approx(value.item(), rel=1e-4)


@pytest.mark.slow
def test_logits_in_the_thousands_stay_numbers() -> None:
    features, labels = clouds(200, 10, 3)
    features[:5] *= 3e3
    found = solve(features, labels, 3, [1e-3, 1e-6])
    assert (features @ found.weights.mT).abs().max() > 1e3
    assert all(part.isfinite().all() for part in (found.weights, found.biases, found.objectives, found.gradients))
    start = exactly(torch.zeros(3, 10), torch.zeros(3), features, labels, 1e-6)[0]
    assert found.objectives.max() < start


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 40), width=st.integers(1, 60), classes=st.integers(1, 5), seed=st.integers(0, 1000),
    l2=st.sampled_from([10.0, 0.1, 1e-3, 1e-6]),
)  # fmt: skip
def test_whatever_the_shape_the_gradient_vanishes(count: int, width: int, classes: int, seed: int, l2: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = standardised(torch.randn(count, width, generator=generator))
    labels = torch.randint(classes, (count,), generator=generator)
    found = solve(features, labels, classes, [l2])
    assert found.converged.all()
    assert exactly(found.weights[0], found.biases[0], features, labels, l2)[1] <= 1.1 * TOLERANCE


def test_strengths_that_do_not_fit_together_are_solved_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(100, 6, 3)
    together = solve(features, labels, 3, PATH)
    heard: list[int] = []
    monkeypatch.setattr(logistic, "TOGETHER", 1)
    alone = solve(features, labels, 3, PATH, advance=heard.append)
    assert torch.allclose(together.weights, alone.weights, atol=1e-4)
    assert heard == [1, 1, 1, 1]


def test_measures_are_those_of_each_solution_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "BLOCK", 1)  # 1,024 images at a time
    features, labels = clouds(2500, 6, 3)
    found = solve(features, labels, 3, PATH)
    losses, accuracies = measure(found, features, labels)
    for at in range(len(PATH)):
        logits = features @ found.weights[at].T + found.biases[at]
        assert losses[at].item() == pytest.approx(cross_entropy(logits, labels).item(), abs=1e-6)
        assert accuracies[at].item() == pytest.approx((logits.argmax(1) == labels).double().mean().item(), abs=1e-3)


@pytest.mark.parametrize(("count", "width"), [(300, 12), (40, 200)])
def test_a_rougher_stop_is_kept_to_and_where_it_ends_the_exact_one_begins(count: int, width: int) -> None:
    features, labels = clouds(count, width, 3)
    regression = Regression(features, labels, 3)
    rough, exact = regression.solve(PATH, stop=ROUGH), regression.solve(PATH)
    assert rough.converged.all() and (rough.passes < exact.passes).all()
    for at, l2 in enumerate(PATH):
        assert exactly(rough.weights[at], rough.biases[at], features, labels, l2)[1] <= 1.1 * ROUGH.size
        start = torch.cat([rough.weights[at], rough.biases[at, :, None]], 1)
        begun = regression.solve([l2], start=start)
        torch.testing.assert_close(begun.objectives[0], exact.objectives[at], atol=1e-6, rtol=1e-5)
        assert begun.passes[0] < exact.passes[at]
        assert regression.solve([l2], stop=ROUGH, start=start).passes.tolist() == [1]


def test_features_that_are_no_numbers_are_refused() -> None:
    features, labels = clouds(20, 4, 2)
    features[3, 1] = torch.nan
    with pytest.raises(DataError, match="finite"):
        solve(features, labels, 2, PATH)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_the_same() -> None:
    features, labels = clouds(500, 20, 4)
    here, there = solve(features, labels, 4, PATH), solve(features.cuda(), labels.cuda(), 4, PATH)
    assert there.weights.is_cuda and torch.allclose(here.objectives, there.objectives.cpu(), atol=1e-6)


def rosenbrock(points: torch.Tensor, active: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rosenbrock 1960, its valley as steep as the problem's number says; the minimum is 1 (not 0) at (1, 1)."""
    steep = 10.0 ** active.float()
    x, y = points.T
    gradient = torch.stack([2 * (x - 1) - 4 * steep * x * (y - x**2), 2 * steep * (y - x**2)], 1)
    return (1 + (1 - x) ** 2 + steep * (y - x**2) ** 2).double(), gradient, gradient.abs().amax(1)


def test_problems_of_different_difficulty_descend_together() -> None:
    descent = Descent(torch.tensor([[-1.2, 1.0]] * 3))
    heard: list[int] = []
    descent.run(rosenbrock, Stop(size=1e-3, gap=1e-6, share=0, noise=1e-7, shortest=1e-6, limit=200), heard.append)
    assert descent.done.all() and sum(heard) == 3
    assert torch.allclose(descent.points, torch.ones(3, 2), atol=2e-2)
    assert len(set(descent.passes.tolist())) == 3


def test_a_descent_that_gets_nowhere_ends_and_says_so() -> None:
    def misleading(points: torch.Tensor, active: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        value, gradient, size = rosenbrock(points, active)
        return value, -gradient, size

    stop = Stop(size=1e-3, gap=1e-6, share=0, noise=1e-7, shortest=1e-6, limit=200)
    descent = Descent(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    descent.run(misleading, stop)
    assert descent.done.tolist() == [False, True]
    assert descent.points[0].tolist() == [0.0, 0.0] and descent.passes[0] < 50
