"""Alignment in closed form: each against its definition, and what comes out of it; and what caution keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import linprog
from sklearn.decomposition import PCA

from tasks.errors import ConfigurationError
from tasks.train.adaptation import transport
from tasks.train.adaptation.aligning import Aligning
from tasks.train.adaptation.alignment import both, folded
from tasks.train.adaptation.caution import Attempt, keep
from tasks.train.adaptation.covariance import Covariance
from tasks.train.adaptation.subspace import turned
from tasks.train.check import check_labels
from tasks.train.fusion.parts import Part
from tasks.train.heads import Head
from tasks.train.methods import METHODS
from tasks.train.methods.coral import Coral
from tasks.train.solvers import Fit
from tasks.train.targets import Labelled
from tests.train.prepared import Prepared

ALIGNING = [name for name, kind in METHODS.items() if issubclass(kind, Aligning)]


def section_of(name: str, **keys: float) -> Aligning:
    section = METHODS[name].model_validate(keys)
    assert isinstance(section, Aligning)
    return section


def correct(head: Head, images: Labelled) -> float:
    with torch.inference_mode():
        return (head(images[0]).argmax(1) == images[1]).double().mean().item()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("count", [200, 5], ids=["more images than units", "fewer"])
def test_powers_of_a_covariance_are_the_matrixs(count: int) -> None:
    images = torch.randn(count, 8, generator=generator()) * torch.arange(1.0, 9.0)
    matrix = images.T.cov() + 0.5 * torch.eye(8)
    covariance, points = Covariance(images, 0.5), torch.randn(3, 8, generator=generator(1))
    torch.testing.assert_close(covariance.power(points, 1), points @ matrix, rtol=1e-3, atol=1e-3)
    white = covariance.power(points, -0.5)
    torch.testing.assert_close(white @ white.T, points @ matrix.inverse() @ points.T, rtol=1e-3, atol=1e-3)


def test_of_many_units_some_images_tell_the_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.train.adaptation.covariance.MOST", 6)
    covariance = Covariance(torch.randn(50, 8), 1.0)
    assert covariance.axes.shape == (8, 6)


@pytest.mark.parametrize(("count", "expected"), [(200, 3), (3, 2)], ids=["more images than units", "fewer than axes"])
def test_principal_axes_are_those_of_an_analysis_of_principal_components(count: int, expected: int) -> None:
    images = torch.randn(count, 8, generator=generator()) * torch.arange(1.0, 9.0)
    axes = Covariance(images).principal(3)
    theirs = torch.from_numpy(PCA(expected, svd_solver="full").fit(images.numpy()).components_)
    assert axes.shape == (8, expected)
    torch.testing.assert_close((theirs @ axes).abs(), torch.eye(expected), rtol=1e-3, atol=1e-3)


def mixed() -> tuple[Labelled, Labelled, Labelled]:
    """Two classes apart along the first of four axes that have nothing to do with each other, and images of them in
    which all axes are mixed, and moved: of train, validation, target."""
    drawing = generator()

    def drawn(count: int) -> Labelled:
        labels = torch.arange(count) % 2
        points = torch.randn(count, 4, generator=drawing)
        points[:, 0] = 0.3 * points[:, 0] + 0.95 * (2 * labels - 1)
        return points, labels

    features, labels = drawn(400)
    return drawn(400), drawn(100), (features @ (0.2 * torch.eye(4) + 0.8) + 3.0, labels)


def shown_elsewhere() -> tuple[Labelled, Labelled, Labelled]:
    """Two classes that the first three of six features show; in the target the last four do, and the first two show
    something else."""
    drawing = generator()

    def drawn(count: int, shown: list[float], else_: list[float]) -> Labelled:
        labels = torch.arange(count) % 2
        points = 0.3 * torch.randn(count, 6, generator=drawing)
        points += torch.outer(2.0 * labels - 1, torch.tensor(shown))
        return points + torch.outer(torch.randn(count, generator=drawing), torch.tensor(else_)), labels

    ours = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0], [0.0] * 6
    return drawn(300, *ours), drawn(90, *ours), drawn(300, [0.0, 0.0, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, *[0.0] * 4])


def pushed_together() -> tuple[Labelled, Labelled, Labelled]:
    """Three classes in a row, as two features show; in the target, the one in the middle is beside the last."""
    drawing = generator()

    def drawn(count: int, middle: float) -> Labelled:
        labels = torch.arange(count) % 3
        places = torch.tensor([-1.0, middle, 1.0])[labels]
        return places[:, None] + 0.03 * torch.randn(count, 2, generator=drawing), labels

    return drawn(300, 0.0), drawn(90, 0.0), drawn(240, 0.85)


DOMAINS = {
    "coral": (mixed, {"shrinkage": 1e-3}),
    "subspace": (shown_elsewhere, {"dimensions": 1}),
    "optimal_transport": (pushed_together, {}),
}


@pytest.mark.parametrize("name", ALIGNING)
def test_a_target_that_is_seen_otherwise_is_recognised_again_and_served_by_its_statistics(name: str) -> None:
    domains, keys = DOMAINS[name]
    train, validation, target = domains()
    classes = int(train[1].max()) + 1
    plain, adapted = both(train, validation, target[0], classes, section_of(name, **keys).align)
    assert correct(plain.fit.head, train) > 0.95 and correct(plain.fit.head, target) < 0.85
    assert correct(adapted.fit.head, target) > 0.95
    torch.testing.assert_close(adapted.fit.head.mean, target[0].mean(0))
    assert adapted.fit.head.kind == "linear" and adapted.fit.head.width == train[0].shape[1]
    for attempt in (plain, adapted):
        assert attempt.validated is not None
        logits, labels = attempt.validated
        assert (logits.argmax(1) == labels).double().mean().item() == pytest.approx(attempt.fit.score)
        with torch.inference_mode():
            torch.testing.assert_close(attempt.fit.head(target[0]), attempt.logits)


def test_one_head_answers_as_standardising_projecting_and_a_head_along_the_axes_do() -> None:
    torch.manual_seed(0)
    features, axes = 3 * torch.randn(40, 6) + 2, torch.linalg.qr(torch.randn(6, 6))[0][:, :2]
    standard = Head(6, 3).standardise_like(features)
    low = Head(2, 3).standardise_like(torch.randn(40, 2) * 5 - 1)
    with torch.inference_mode():
        expected = low(standard.standardised(features) @ axes)
        torch.testing.assert_close(folded(low, axes, standard)(features), expected, rtol=1e-4, atol=1e-4)
        whole = Head(6, 3).standardise_like(torch.randn(40, 6) * 5 - 1)
        alike = folded(whole, None, standard)(features)
        torch.testing.assert_close(alike, whole(standard.standardised(features)), rtol=1e-4, atol=1e-4)


def test_subspaces_are_aligned_as_the_paper_says() -> None:
    (train, labels), validation, (target, _) = shown_elsewhere()
    aligned = turned((train, labels), validation, target, 2)
    ours, theirs = (torch.from_numpy(PCA(2).fit(images.numpy()).components_).T for images in (train, target))
    expected = train @ ours @ ours.T @ theirs
    assert aligned.axes is not None
    # Axes of an analysis have no sign.
    signs = (theirs * aligned.axes).sum(0).sign()
    torch.testing.assert_close(aligned.train[0], expected * signs, rtol=1e-3, atol=1e-3)


def costs(count: int = 6, places: int = 5) -> torch.Tensor:
    return torch.rand(count, places, generator=generator(), dtype=torch.float64)


@pytest.mark.parametrize("entropy", [1.0, 0.05, 0.002])
def test_a_plan_gives_each_row_and_column_its_mass_and_is_a_scaled_kernel(entropy: float) -> None:
    cost = costs(40, 30)
    plan, _ = transport.entropic(cost, entropy)
    torch.testing.assert_close(plan.sum(1), torch.full((40,), 1 / 40, dtype=plan.dtype), rtol=0, atol=1e-6)
    torch.testing.assert_close(plan.sum(0), torch.full((30,), 1 / 30, dtype=plan.dtype), rtol=0, atol=1e-6)
    # γᵢⱼ = exp((fᵢ + gⱼ - costᵢⱼ)/entropy) is what makes a plan of these margins the best one.
    potentials = entropy * plan.clamp(min=1e-300).log() + cost
    apart = potentials - potentials[:1] - potentials[:, :1] + potentials[0, 0]
    assert apart[plan > 1e-250].abs().max() < 1e-6


def test_with_hardly_any_entropy_a_plan_costs_what_the_best_one_does() -> None:
    cost = costs()
    count, places = cost.shape
    rows = np.kron(np.eye(count), np.ones(places))
    columns = np.kron(np.ones(count), np.eye(places))
    masses = np.r_[np.full(count, 1 / count), np.full(places, 1 / places)]
    best = linprog(cost.flatten().numpy(), A_eq=np.r_[rows, columns], b_eq=masses)
    plan, _ = transport.entropic(cost, 1e-3)
    assert (plan * cost).sum().item() == pytest.approx(best.fun, abs=1e-4)


COSTS = [[0.1, 0.7, 0.9], [0.8, 0.2, 0.6], [0.5, 0.4, 0.3], [0.9, 0.6, 0.05]]


def test_plans_are_those_of_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are those of POT 0.9.7: `ot.sinkhorn(a, b, COSTS, 0.1)` and `ot.da.sinkhorn_lpl1_mm(a, [0, 0, 1, 1], b,
    COSTS, 0.1, eta=0.3 / 3**0.5)`, which goes by masses rather than shares."""
    cost = torch.tensor(COSTS, dtype=torch.float64)
    entropic = [
        [0.2497546436, 0.0002335859, 0.0000117705], [0.0016206790, 0.2466969386, 0.0016823825],
        [0.0816003794, 0.0836924992, 0.0847071214], [0.0003576314, 0.0027103097, 0.2469320589],
    ]  # fmt: skip
    by_class = [
        [0.2497844894, 0.0002155106, 0.0], [0.0017677514, 0.2482322486, 0.0],
        [0.0814306482, 0.0822694471, 0.0862999047], [0.0003504444, 0.0026161270, 0.2470334286],
    ]  # fmt: skip
    torch.testing.assert_close(transport.entropic(cost, 0.1)[0], cost.new_tensor(entropic), rtol=0, atol=1e-6)
    monkeypatch.setattr(transport, "LEAST", 3 * 1e-3)
    plan = transport.class_regularised(cost, torch.tensor([0, 0, 1, 1]), 0.1, 0.3)
    torch.testing.assert_close(plan, cost.new_tensor(by_class), rtol=0, atol=1e-6)


def test_a_plan_goes_on_from_the_potential_of_another() -> None:
    cost = costs(40, 30)
    plan, potential = transport.entropic(cost, 0.05)
    again, _ = transport.entropic(cost + 1e-3 * costs(40, 30), 0.05, potential)
    assert (again - plan).abs().max() < 1e-3


def test_class_regularisation_gives_an_image_of_the_target_one_class() -> None:
    cost, labels = costs(90, 60), torch.arange(90) % 3
    member = torch.nn.functional.one_hot(labels).double()
    purity = []
    for strength in (0.0, 1.0):
        plan = transport.class_regularised(cost, labels, 0.3, strength)
        assert (plan.sum(1) - 1 / 90).abs().max() < 1e-6 and (plan.sum(0) - 1 / 60).abs().max() < 1e-6
        purity.append((60 * (member.T @ plan).max(0).values).mean().item())
    assert purity[0] < 0.5 and purity[1] > 0.9


def test_images_beyond_those_of_the_plan_move_like_their_nearest_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    known, moves = torch.tensor([[0.0, 0.0], [10.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, -2.0]])
    images = torch.tensor([[1.0, 0.0], [9.0, 5.0], [-3.0, 1.0]])
    expected = torch.tensor([[2.0, 1.0], [9.0, 3.0], [-2.0, 2.0]])
    monkeypatch.setattr(transport, "MOST", 2)
    torch.testing.assert_close(transport.carried(images, known, moves), expected)
    monkeypatch.setattr(transport, "MOST", 60)
    train, validation, target = pushed_together()
    aligned = transport.transported(train, validation, target[0], 0.02, 0.1)
    assert aligned.train[0].shape == train[0].shape
    _, adapted = both(train, validation, target[0], 3, section_of("optimal_transport").align)
    assert correct(adapted.fit.head, target) > 0.95


def one_of_a_class() -> tuple[Labelled, Labelled, torch.Tensor]:
    features, labels = torch.randn(31, 8, generator=generator()), torch.arange(31) % 2
    labels[0] = 2
    return (features, labels), (features[:10], labels[:10]), torch.randn(40, 8, generator=generator(1))


def hardly_any_images() -> tuple[Labelled, Labelled, torch.Tensor]:
    features, labels = torch.randn(6, 50, generator=generator()), torch.arange(6) % 3
    return (features, labels), (features, labels), torch.randn(2, 50, generator=generator(1))


def nothing_to_see() -> tuple[Labelled, Labelled, torch.Tensor]:
    labels = torch.arange(12) % 3
    return (torch.ones(12, 5), labels), (torch.ones(12, 5), labels), torch.full((7, 5), 2.0)


def some_features_constant() -> tuple[Labelled, Labelled, torch.Tensor]:
    (features, labels), validation, target = one_of_a_class()
    features[:, :3], target[:, 2:5] = 1.0, -1.0
    return (features, labels), validation, target


@pytest.mark.parametrize(
    "domains",
    [one_of_a_class, hardly_any_images, nothing_to_see, some_features_constant],
    ids=lambda made: str(made.__name__),
)
@pytest.mark.parametrize("name", ALIGNING)
def test_of_next_to_nothing_there_is_a_head_whose_answers_are_numbers(name: str, domains: object) -> None:
    assert callable(domains)
    train, validation, target = domains()
    _, adapted = both(train, validation, target, 3, section_of(name).align)
    assert adapted.logits.shape == (len(target), 3) and adapted.logits.isfinite().all()
    assert all(part.isfinite().all() for part in adapted.fit.head.state_dict().values())


@pytest.mark.parametrize("name", ALIGNING)
def test_several_labels_of_an_image_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"have several labels each, and {name} \(train.method\)") as raised:
        check_labels(section_of(name), "photos", "labels")
    assert "\n" not in str(raised.value)


def attempt(logits: torch.Tensor, score: float) -> Attempt:
    """A head that gives its features back as logits."""
    head = Head(2, 2)
    head.layers.weight.data, head.layers.bias.data = torch.eye(2), torch.zeros(2)  # type: ignore[union-attr]
    validated = torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    return Attempt(Fit(head.eval(), score, {"l2": 1.0}, pd.DataFrame()), logits, validated)


def test_what_is_kept_goes_by_trust_and_by_caution() -> None:
    unsure = torch.tensor([[0.4, 0.0], [0.0, 0.4], [0.4, 0.0], [0.0, 0.4]])
    plain, surer, others = attempt(unsure, 0.5), attempt(9 * unsure, 0.25), attempt(-9 * unsure, 0.25)
    kept = keep("coral", plain, surer, True)
    assert kept.chosen["adapted"] == 1 and kept.chosen["l2"] == 1 and kept.score == 1.0
    assert kept.head is not surer.fit.head  # both together
    assert keep("coral", plain, surer, False).head is surer.fit.head
    gone = keep("coral", plain, others, True)
    assert gone.head is plain.fit.head and gone.chosen["adapted"] == 0 and gone.score == 0.5
    nearly = attempt(torch.tensor([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0], [4.0, 0.0]]), 0.25)
    assert keep("coral", plain, nearly, True, 0.4).chosen["adapted"] == 1  # three of four alike: a kappa of a half
    assert keep("coral", plain, nearly, True, 0.6).head is plain.fit.head
    assert gone.validated is None and torch.equal(keep("coral", plain, surer, False).validated, surer.validated[0])  # type: ignore[arg-type,index]
    forced = keep("coral", plain, others, False)
    assert forced.head is others.fit.head and forced.chosen["adapted"] == 1 and forced.score == 0.25
    assert plain.fit.chosen == {"l2": 1.0}


def test_networks_side_by_side_count_alike_in_an_adapted_head_too() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 3
    features = torch.randn(120, 20, generator=generator) + 2 * torch.nn.functional.one_hot(labels, 20)
    parts = (Part(16), Part(4))
    given = (features[:60], labels[:60]), (features[60:], labels[60:]), features[:60] + 1
    plain, adapted = both(*given, 3, Coral(shrinkage=1e6).align, parts)  # which leaves features as they are
    torch.testing.assert_close(adapted.fit.head.std, plain.fit.head.std)
    with torch.inference_mode():
        torch.testing.assert_close(adapted.logits, plain.fit.head(features[:60]), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("cautious", [False, True])
@pytest.mark.parametrize("name", ALIGNING)
def test_a_dataset_is_adapted_and_the_plain_head_kept_where_criteria_disagree(
    night: Prepared, tmp_path: Path, name: str, cautious: bool
) -> None:
    section = section_of(name, cautious=cautious, calibrate=False)
    candidate = night.train(section, night.features.store.parents[2])
    task = night.task(tmp_path)
    agreed = candidate.chosen["information"] > candidate.chosen["plain_information"]
    trusted = agreed and candidate.chosen["agreement"] >= section.least_agreement
    assert candidate.method == name and candidate.chosen["adapted"] == (trusted or not cautious)
    plain, adapted = both(task.train, task.validation, task.adapted_to, task.classes, section.align)
    kept = adapted if candidate.chosen["adapted"] else plain
    head = Head.load(candidate.head)
    torch.testing.assert_close(head.mean, kept.fit.head.mean)
    alone = torch.allclose(head.layers.weight, kept.fit.head.layers.weight, atol=1e-4)  # type: ignore[arg-type]
    assert alone == (not (cautious and trusted))


@pytest.mark.parametrize("name", ALIGNING)
def test_the_probabilities_of_an_adapted_head_are_calibrated_too(night: Prepared, tmp_path: Path, name: str) -> None:
    candidate = night.train(section_of(name, cautious=False), night.features.store.parents[2])
    assert candidate.chosen["adapted"] == 1 and 0 < float(Head.load(candidate.head).temperature) != 1


def test_each_seed_draws_its_own_images_for_a_plan(
    night: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MOST", 20)
    fits = [
        section_of("optimal_transport", cautious=False).fit(night.task(tmp_path / str(seed), seed))
        for seed in (0, 0, 1)
    ]
    one, again, other = (fit.head.state_dict() for fit in fits)
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)
