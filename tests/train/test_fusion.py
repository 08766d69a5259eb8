"""Heads of several parts: none is drowned, and gates and weights are those of their equations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tasks.train import solvers
from tasks.train.fusion.ensemble import fit_ensemble, fit_ensemble_cross_validated, shares_of
from tasks.train.fusion.gated import Schedule, disagreement, fit_gated, fit_gated_cross_validated
from tasks.train.fusion.networks import Ensemble, Gated
from tasks.train.fusion.parts import Part, scales
from tasks.train.heads import Head, predict_probabilities
from tasks.train.methods.gated_fusion import GatedFusion
from tasks.train.methods.linear import Linear
from tasks.train.methods.logits_ensemble import LogitsEnsemble
from tasks.train.solvers import Fit, fit_linear, fit_linear_cross_validated
from tasks.train.targets import Labelled, merit
from tests.train.prepared import Prepared

PARTS = (Part(40), Part(8))
SCHEDULE = Schedule(
    epochs=8, hidden=16, learning_rate=3e-3, weight_decay=0.01, batch_size=32, dropout=0.2, agreement=0.1,
    label_smoothing=0.0, balance="none",
)  # fmt: skip

SHORT = Schedule(**vars(SCHEDULE) | {"epochs": 4, "learning_rate": 1e-2})


def blobs(count: int, classes: int = 3, seed: int = 0, several: bool = False) -> Labelled:
    """A wide part of noise, and a narrow one, a thousand times smaller, that tells classes apart."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = torch.randn(classes, 8, generator=torch.Generator().manual_seed(99)) * 2
    narrow = centres[labels] + torch.randn(count, 8, generator=draw)
    features = torch.cat([torch.randn(count, 40, generator=draw) * 30, narrow / 1000], dim=1)
    return features, torch.nn.functional.one_hot(labels, classes).float() if several else labels


def test_every_part_counts_alike_however_wide_and_however_large_its_values() -> None:
    features, _ = blobs(500)
    wide, narrow = Head(48, 3, parts=PARTS).standardise_like(features).standardised(features).split([40, 8], dim=1)
    assert wide.var(0, correction=0).sum() == pytest.approx(24, rel=1e-3)
    assert narrow.var(0, correction=0).sum() == pytest.approx(24, rel=1e-3)
    heavier = Head(48, 3, parts=(Part(40), Part(8, 2.0))).standardise_like(features).standardised(features)
    ratio = heavier[:, 40:].var(0).sum() / heavier[:, :40].var(0).sum()
    assert ratio == pytest.approx(4, rel=1e-3) and heavier.var(0, correction=0).sum() == pytest.approx(48, rel=1e-3)


def test_a_single_part_is_standardised_as_ever() -> None:
    features = blobs(100)[0][:, :40]
    head = Head(40, 3).standardise_like(features)
    assert scales(head.parts) == [1.0]
    assert torch.equal(head.std, features.std(0, correction=0)) and torch.equal(head.mean, features.mean(0))


def test_a_part_of_small_values_decides_where_it_alone_knows() -> None:
    train, validation = blobs(120, seed=1), blobs(300, seed=2)
    drowned, fair = (fit_linear(train, validation, 3, parts=parts).score for parts in ((), PARTS))
    assert fair > 0.9 > drowned


def test_a_part_of_noise_is_given_less_weight_where_weights_are_chosen() -> None:
    train, validation = blobs(120, seed=1), blobs(300, seed=2)

    def fit(parts: tuple[Part, ...]):
        return fit_linear(train, validation, 3, parts=parts)

    alike, weighed = (Linear(weigh=weigh).weighed(fit, PARTS) for weigh in (False, True))
    assert weighed.head.parts[0].weight < 1 <= weighed.head.parts[1].weight
    assert weighed.chosen["weight_1"] == weighed.head.parts[0].weight and "weight_1" not in alike.chosen
    assert weighed.curves["validation/loss"].min() < alike.curves["validation/loss"].min()
    assert Linear(weigh=True).weighed(lambda parts: alike, PARTS[:1]) is alike


def test_weights_begin_from_the_widths_where_these_are_better() -> None:
    tried: list[tuple[float, ...]] = []

    def fit(parts: tuple[Part, ...]) -> Fit:
        tried.append(tuple(part.weight for part in parts))
        loss = abs(parts[0].weight / parts[1].weight - 5**0.5)
        curves = pd.DataFrame({"validation/loss": [loss]})
        return Fit(Head(48, 3, parts=parts), -loss, {}, curves)

    weighed = Linear(weigh=True).weighed(fit, PARTS)
    assert weighed.chosen == {"weight_1": 40**0.5, "weight_2": 8**0.5} and len(tried) == 8
    assert (2 * 40**0.5, 8**0.5) in tried


def test_gates_are_those_of_the_equations() -> None:
    torch.manual_seed(0)
    network = Gated([5, 3], classes=4, hidden=2).eval()
    torch.nn.init.normal_(network.gate.weight)
    x = torch.randn(6, 8)
    weights = [projection.weight for projection in network.projections]
    biases = [projection.bias for projection in network.projections]
    for row, image in enumerate(x):
        seen = [torch.tanh(w @ part + b) for w, b, part in zip(weights, biases, image.split([5, 3]), strict=True)]
        (a1, b1), (a2, b2) = (each.split(2) for each in seen)
        gates = 2 * torch.softmax(network.gate.weight @ torch.cat([a1, b1, a2, b2]) + network.gate.bias, 0)
        fused = torch.cat([(gates[0] * a1 + gates[1] * a2) / 2, gates[0] * b1, gates[1] * b2])
        wanted = network.classifier.weight @ fused + network.classifier.bias
        torch.testing.assert_close(network(x)[row], wanted)
        torch.testing.assert_close(network.views(x).gates[row], gates)
        apart = torch.cat([a1 - (a1 + a2) / 2, a2 - (a1 + a2) / 2]).square().mean()
        torch.testing.assert_close(disagreement(network.views(x[row : row + 1]).shared), apart)


def test_gates_turn_to_the_part_that_knows_an_image() -> None:
    draw = torch.Generator().manual_seed(0)
    labels, knows = torch.arange(1200) % 2, torch.randint(2, (1200,), generator=draw)
    parts = torch.randn(1200, 2, 6, generator=draw) * 0.5
    parts[torch.arange(1200), knows, 0] += 3 * (2 * labels - 1)  # says the class
    parts[torch.arange(1200), knows, 1] += 4  # says that it is this part that does
    parts[torch.arange(1200), 1 - knows, 0] += 3 * (2 * torch.randint(2, (1200,), generator=draw) - 1)  # misleads
    features = parts.flatten(1)
    train, validation = (features[:800], labels[:800]), (features[800:], labels[800:])
    both = (Part(6), Part(6))
    fit = fit_gated(train, validation, 2, both, Schedule(**vars(SCHEDULE) | {"epochs": 30}), seed=0)
    assert fit.score > fit_linear(train, validation, 2, parts=both).score + 0.1
    assert isinstance(fit.head.layers, Gated)
    gates = fit.head.layers.views(fit.head.standardised(validation[0])).gates
    assert gates[torch.arange(400), knows[800:]].mean() > 1.2


@pytest.mark.parametrize("several", [False, True])
def test_an_ensemble_s_probabilities_are_the_weighted_mean_of_its_members(several: bool) -> None:
    torch.manual_seed(0)
    network = Ensemble([5, 3], classes=4, several=several)
    network.shares.copy_(torch.tensor([0.7, 0.3]))
    x = torch.randn(6, 8)
    probable = torch.sigmoid if several else lambda logits: logits.softmax(1)
    one, other = (member(part) for member, part in zip(network.members, x.split([5, 3], dim=1), strict=True))
    wanted = 0.7 * probable(one) + 0.3 * probable(other)
    torch.testing.assert_close(probable(network(x)), wanted)


@pytest.mark.parametrize("several", [False, True])
def test_weights_are_those_of_the_highest_likelihood(several: bool) -> None:
    targets = blobs(400, several=several)[1]
    draw = torch.Generator().manual_seed(1)
    right = 2.0 * torch.nn.functional.one_hot(torch.arange(400) % 3, 3) - int(several)
    logits = torch.stack([noise * torch.randn(400, 3, generator=draw) + right for noise in (1.0, 1.5, 4.0)])
    shares = shares_of(logits, targets)
    assert shares.sum() == pytest.approx(1) and shares[0] > shares[1] > shares[2]

    def likelihood(weights: torch.Tensor) -> float:
        probable = torch.einsum("k,knc->nc", weights, logits.sigmoid() if several else logits.softmax(2))
        given = torch.where(targets > 0, probable, 1 - probable) if several else probable[torch.arange(400), targets]
        return float(given.log().sum() + weights.log().sum())

    best = likelihood(shares)
    for _ in range(200):
        near = (shares + 0.02 * torch.randn(3, generator=draw)).clamp(min=1e-3)
        assert likelihood(near / near.sum()) <= best + 1e-3


def test_the_ensemble_answers_as_its_calibrated_members_do() -> None:
    train, validation = blobs(150, seed=1), blobs(90, seed=2)
    fit = fit_ensemble(train, validation, PARTS, lambda ours, theirs: fit_linear(ours, theirs, 3))
    assert fit.chosen["weight_2"] > 0.9 and fit.score > 0.9
    assert fit.score == merit(fit.head(validation[0]), validation[1])
    alone = fit_linear((train[0][:, 40:], train[1]), (validation[0][:, 40:], validation[1]), 3).head
    member = fit.head.layers.members[1](fit.head.standardised(validation[0])[:, 40:])
    logits = alone(validation[0][:, 40:])
    heat = (logits / member).median()
    torch.testing.assert_close(member * heat, logits, rtol=1e-3, atol=1e-3)
    assert (fit.curves["step"] == [1, 2, 3]).all()


def test_heads_of_parts_are_the_same_after_they_were_saved(tmp_path: Path) -> None:
    train, validation = blobs(60, seed=1), blobs(60, seed=2)
    heads = [
        fit_gated(train, validation, 3, PARTS, SCHEDULE, seed=0).head,
        fit_ensemble(train, validation, PARTS, lambda ours, theirs: fit_linear(ours, theirs, 3)).head,
    ]
    for head in heads:
        head.save(tmp_path / "head.safetensors")
        again = Head.load(tmp_path / "head.safetensors")
        assert again.parts == PARTS
        torch.testing.assert_close(again(validation[0]), head(validation[0]), rtol=0, atol=0)


def test_a_seed_gives_the_same_network_and_another_seed_another_one() -> None:
    train, validation = blobs(60, seed=1), blobs(60, seed=2)
    first, again, other = (
        fit_gated(train, validation, 3, PARTS, SCHEDULE, seed).head(validation[0]) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_cross_validation_judges_by_networks_that_have_not_seen_the_images() -> None:
    features, labels = blobs(60)
    shuffled = labels[torch.randperm(60, generator=torch.Generator().manual_seed(0))]
    fit = fit_gated_cross_validated((features, shuffled), 3, PARTS, SHORT, seed=0)
    assert fit.cross_validated and fit.score < 0.65  # of three classes that nothing tells
    assert merit(fit.head(features), shuffled) > 0.65
    assert fit.held_out is not None and fit.held_out.shape == (60, 3)
    groups = np.repeat(np.arange(20), 3)
    assert fit_gated_cross_validated((features, labels), 3, PARTS, SHORT, 0, groups).score > 0.65


METHODS = [GatedFusion(epochs=3, hidden=8), LogitsEnsemble()]


def in_parts(prepared: Prepared) -> Prepared:
    """As if the features were of three layers."""
    features = prepared.features.model_copy(update={"widths": (300, 200, 12)})
    return Prepared(prepared.dataset, prepared.preprocessed, features)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.method)
def test_images_may_have_several_labels(method, shapes: Prepared, tmp_path: Path) -> None:
    fit = method.fit(in_parts(shapes).task(tmp_path))
    assert fit.head.multi_label and fit.score > 0.8
    found = predict_probabilities(fit.head, in_parts(shapes).task(tmp_path).validation[0])
    assert (found >= 0).all() and (found <= 1).all() and (found.sum(1) - 1).abs().max() > 0.1


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.method)
def test_few_images_are_all_learned_from_and_classes_may_have_none(method, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solvers, "HELD_OUT", 100)  # in fewer rounds
    (features, labels), parts = blobs(60, classes=2), PARTS
    if isinstance(method, GatedFusion):
        fit = fit_gated_cross_validated((features, labels), 4, parts, SHORT, seed=0)
    else:
        fit = fit_ensemble_cross_validated(
            (features, labels), parts, lambda images: fit_linear_cross_validated(images, 4)
        )
    assert fit.cross_validated and fit.held_out is not None and not fit.held_out.isnan().any()
    assert merit(fit.held_out, labels) > 0.8
    assert fit.head.classes == 4 and predict_probabilities(fit.head, torch.randn(3, 48)).isfinite().all()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.method)
def test_two_hundred_classes_are_learned(method) -> None:
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 200
    centres = torch.randn(200, 48, generator=draw)
    features = centres[labels] + 0.2 * torch.randn(600, 48, generator=draw)
    train, validation = (features[:400], labels[:400]), (features[400:], labels[400:])
    if isinstance(method, GatedFusion):
        schedule = Schedule(**vars(SCHEDULE) | {"epochs": 20, "hidden": 64})
        assert fit_gated(train, validation, 200, PARTS, schedule, 0).score > 0.8
    else:
        fit = fit_ensemble(train, validation, PARTS, lambda ours, theirs: fit_linear(ours, theirs, 200))
        assert fit.score > 0.8
