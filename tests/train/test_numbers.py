"""Heads for numbers: the right line, a spread that means what it says, and nothing learned from what has no label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from torch.distributions import Normal

from tasks.errors import ConfigurationError
from tasks.train.calibration import calibrate
from tasks.train.check import check_labels
from tasks.train.further import check_further
from tasks.train.heads import Head, predict_numbers
from tasks.train.least_squares import STRENGTHS, fit_number, fit_number_cross_validated
from tasks.train.method import Method
from tasks.train.methods import METHODS
from tasks.train.methods.linear import Linear
from tasks.train.methods.lp_ft import LpFt
from tasks.train.methods.mlp import Mlp
from tasks.train.neighbours import fit_neighbours
from tasks.train.solvers import fit_mlp
from tasks.train.targets import Labelled, kind_of, merit, surprise, weighed
from tests.train.prepared import Prepared


def line(count: int, seed: int, width: int = 8, noise: float = 0.5) -> Labelled:
    """Numbers about 1900 that depend on features by a line, and noise."""
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(count, width, generator=draw) * torch.arange(1, width + 1)
    slope = torch.randn(width, generator=torch.Generator().manual_seed(9))
    return features, 1900 + 10 * (features @ slope / width + noise * torch.randn(count, generator=draw))


def trumpet(count: int, seed: int) -> Labelled:
    """Numbers whose noise grows with the first feature, from 0.1 to 2."""
    draw = torch.Generator().manual_seed(seed)
    features = torch.rand(count, 3, generator=draw)
    noise = (0.1 + 1.9 * features[:, 0]) * torch.randn(count, generator=draw)
    return features, 5 * features[:, 1] + noise


def test_of_strengths_that_validation_cannot_tell_apart_the_one_with_the_smaller_loss_is_taken() -> None:
    train, (features, numbers) = line(120, 0, noise=0.05), line(100, 1, noise=0.05)
    single = fit_number(train, (features[:1], numbers[:1]))
    assert (single.curves["validation/r2"] == 0).all() and single.chosen["l2"] < STRENGTHS[0]
    answers, _ = predict_numbers(single.head, features)
    assert r2_score(numbers, answers) > 0.9


@pytest.mark.parametrize("width", [8, 200])
def test_the_line_is_scikit_learns(width: int) -> None:
    (features, numbers), validation = line(120, 0, width), line(100, 1, width)
    fit = fit_number((features, numbers), validation)
    inputs = fit.head.standardised(features).double().numpy()
    spread = numbers.std(correction=0).item()
    oracle = Ridge(alpha=fit.chosen["l2"] * len(numbers)).fit(inputs, numbers.double())
    answers, spreads = predict_numbers(fit.head, validation[0])
    expected = oracle.predict(fit.head.standardised(validation[0]).double().numpy())
    assert np.abs(answers.numpy() - expected).max() < 1e-3 * spread
    assert fit.score == pytest.approx(r2_score(validation[1], answers), abs=1e-5) == fit.curves["validation/r2"].max()
    assert fit.curves["l2"].tolist() == list(STRENGTHS)
    residual = np.sqrt((((expected - validation[1].numpy()) ** 2).sum() + spread**2) / 101)
    assert spreads.numpy() == pytest.approx(np.full(100, residual), rel=1e-3)


def test_of_few_images_strength_and_spread_are_chosen_by_cross_validation() -> None:
    train, others = line(60, 0, 20), line(2000, 1, 20)
    fit = fit_number_cross_validated(train, groups=np.arange(60) // 2)
    answers, spreads = predict_numbers(fit.head, others[0])
    error = (answers - others[1]).square().mean().sqrt().item()
    assert fit.cross_validated and spreads[0].item() == pytest.approx(error, rel=0.25)
    assert fit.held_out is not None and fit.held_out.shape == (60, 2) and not fit.held_out.isnan().any()
    assert fit.score == pytest.approx(r2_score(train[1], fit.held_out[:, 0]), abs=0.05)
    with pytest.raises(ConfigurationError, match="there is a single group of images to learn from"):
        fit_number_cross_validated(train, groups=np.zeros(60, int))


def test_losses_are_those_of_gaussians_and_the_weighed_one_has_the_published_gradient() -> None:
    draw = torch.Generator().manual_seed(0)
    outputs, numbers = torch.randn(50, 2, generator=draw).requires_grad_(), torch.randn(50, generator=draw)
    means, deviations = outputs[:, 0], (outputs[:, 1] / 2).exp()
    torch.testing.assert_close(surprise(outputs, numbers), -Normal(means, deviations).log_prob(numbers))
    weighed(outputs, numbers).backward()
    assert outputs.grad is not None
    variances = deviations.detach().square()
    by_means = (means.detach() - numbers) * variances**-0.5 / variances.sqrt().mean() / 50
    torch.testing.assert_close(outputs.grad[:, 0], by_means)


def test_kinds_are_told_apart_and_explained_is_scikit_learns() -> None:
    assert [kind_of(t) for t in (torch.ones(3, dtype=int), torch.ones(3), torch.ones(3, 2))] == [
        "class", "number", "labels",
    ]  # fmt: skip
    draw = torch.Generator().manual_seed(0)
    outputs, numbers = torch.randn(40, 2, generator=draw), torch.randn(40, generator=draw)
    assert merit(outputs, numbers) == pytest.approx(r2_score(numbers, outputs[:, 0]))
    assert merit(outputs, torch.ones(40)) == 0 and merit(outputs * torch.nan, numbers) < 0.1


def test_a_hidden_layer_learns_how_far_off_it_may_be_of_each_image() -> None:
    train, validation, others = trumpet(3000, 0), trumpet(1000, 1), trumpet(3000, 2)
    fit = fit_mlp(train, validation, 2, hidden=32, epochs=15, learning_rate=5e-3, batch_size=64, seed=0)
    calibrate(fit.head, validation)
    answers, spreads = predict_numbers(fit.head, others[0])
    within = (answers - others[1]).abs() <= 1.645 * spreads
    assert within.float().mean().item() == pytest.approx(0.9, abs=0.025)
    narrow, wide = others[0][:, 0] < 0.25, others[0][:, 0] > 0.75
    for part, deviation in ((narrow, 0.34), (wide, 1.76)):
        assert within[part].float().mean().item() == pytest.approx(0.9, abs=0.05)
        assert spreads[part].mean().item() == pytest.approx(deviation, rel=0.2)


def test_neighbours_tell_the_weighted_mean_of_their_numbers(tmp_path: Path) -> None:
    train, validation = line(200, 0), line(100, 1)
    fit = fit_neighbours(train, validation, 2, k=5)
    answers, spreads = predict_numbers(fit.head, validation[0])
    cosines = torch.nn.functional.normalize(fit.head.standardised(validation[0]), dim=1) @ fit.head.layers.examples.T
    nearest = cosines.topk(5)
    weights = ((nearest.values - nearest.values[:, :1]) / 0.07).exp()
    expected = (weights * train[1][nearest.indices]).sum(1) / weights.sum(1)
    torch.testing.assert_close(answers, expected, rtol=1e-5, atol=1e-2)
    assert (spreads > 0).all() and spreads.std() > 0 and fit_neighbours(train, validation, 2).score > 0
    fit.head.save(tmp_path / "head.safetensors")
    again = predict_numbers(Head.load(tmp_path / "head.safetensors"), validation[0])
    assert torch.equal(again[0], answers) and torch.equal(again[1], spreads)


@pytest.mark.parametrize("name", ["linear", "ridge", "mlp", "knn"])
def test_a_number_is_learned_and_further_tasks_beside_it(name: str, inked: Prepared, tmp_path: Path) -> None:
    candidate = inked.train(METHODS[name](), tmp_path)
    assert candidate.score > (0.45 if name == "knn" else 0.7) and list(candidate.further) == ["digit", "shapes"]
    head, digit, shapes = map(Head.load, (candidate.head, *candidate.further.values()))
    assert [each.tells for each in (head, digit, shapes)] == ["number", "class", "labels"]
    task = inked.task(tmp_path)
    features, inks = task.validation
    answers, spreads = predict_numbers(head, features)
    assert candidate.score == pytest.approx(r2_score(inks, answers))
    standing = ((answers - inks) / spreads).square().mean().item()
    assert standing == pytest.approx(1, abs=0.02)
    inputs, digits = task.on(inked.dataset.further[0]).validation
    assert (digit(inputs).argmax(1) == digits).float().mean() > 0.8
    assert all(path.is_file() for path in candidate.files())
    assert candidate.curves.with_name("curves_digit.parquet").is_file()


def test_images_without_a_label_of_a_task_are_as_if_they_were_not_there(inked: Prepared, tmp_path: Path) -> None:
    task, digit = inked.task(tmp_path), inked.dataset.further[0]
    fit = Linear().fit(task.on(digit))
    rows = inked.dataset.read_manifest()
    kept = rows[rows["label:digit"].notna()].assign(label=lambda rows: rows["label:digit"])
    alone = inked.with_rows(
        kept.replace({"split": {"partial": "train"}}), tmp_path, targets=(digit.model_copy(update={"column": "label"}),)
    )
    other = Linear().fit(alone.task(tmp_path))
    assert fit.score == other.score and fit.chosen == other.chosen
    for mine, theirs in zip(fit.head.state_dict().values(), other.head.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    assert task.on(digit).train[0].shape[0] > 0 and set(task.rows("train")["split"]) == {"train"}


def test_a_task_with_too_few_labels_is_refused_before_anything_is_learned(inked: Prepared, tmp_path: Path) -> None:
    rows = inked.dataset.read_manifest()
    kept = rows[rows["split"] == "train"].index[:1]
    rare = inked.with_rows(
        rows.assign(**{"label:digit": rows["label:digit"].where(rows.index.isin(kept), None)}), tmp_path
    )
    with pytest.raises(ConfigurationError, match=r"the task 'digit' has [01] labelled images to learn from, and 2 are"):
        rare.train(Linear(), tmp_path)
    unchosen = rows["label:digit"].where(rows["split"] != "val", None)
    blind = inked.with_rows(rows.assign(**{"label:digit": unchosen}), tmp_path)
    blind = replace(blind, dataset=blind.dataset.model_copy(update={"fingerprint": "blind"}))
    with pytest.raises(ConfigurationError, match="the task 'digit' has no labelled images in the split 'val'"):
        blind.train(Linear(), tmp_path)
    assert not (tmp_path / ".headstart" / "candidates").exists()


def test_labels_that_are_only_where_choices_are_made_suffice_for_who_cross_validates(
    some: Prepared, tmp_path: Path
) -> None:
    rows = some.dataset.read_manifest().replace({"split": {"val": "tune"}})
    rows = rows[rows["split"] != "partial"]
    digit = rows["label:digit"].where(rows["split"] == "tune", None)
    task = some.with_rows(rows.assign(**{"label:digit": digit}), tmp_path, choose_on="tune").task(tmp_path)
    for method in (Linear(), LpFt(), LpFt(search={"methods": ["linear", "partial"]})):
        check_further(task, method)
    joint: list[Method] = [Mlp(tasks={}), LpFt(tasks={})]
    for method in (METHODS["ridge"].model_validate({}), Mlp(), *joint, Linear(search={"methods": ["linear", "mlp"]})):
        with pytest.raises(ConfigurationError, match="the task 'digit' has 0 labelled images to learn from"):
            check_further(task, method)
    single = digit.where(~digit.duplicated(), None)
    (folder := tmp_path / "single").mkdir()
    alone = some.with_rows(rows.assign(**{"label:digit": single}), folder, choose_on="tune")
    with pytest.raises(ConfigurationError, match="of the task 'digit', every class has a single image"):
        check_further(alone.task(tmp_path), LpFt())
    (folder := tmp_path / "together").mkdir()
    number = some.dataset.further[0].model_copy(update={"kind": "number", "classes": ()})
    numbers = rows.assign(**{"label:digit": digit.astype("float64"), "group": "one"})
    together = some.with_rows(numbers, folder, choose_on="tune", targets=(some.dataset.target, number))
    with pytest.raises(ConfigurationError, match="of the task 'digit', there is a single group to learn from"):
        check_further(together.task(tmp_path), LpFt())


def test_what_is_for_classes_is_refused_for_a_number() -> None:
    refused = {
        "prototypes (train.method) tells classes": METHODS["prototypes"](),
        "prototypes (train.search.methods) tells classes": Mlp(search={"methods": ["linear", "prototypes"]}),
        "train.balance is for classes": Linear(balance="weights"),
        "train.label_smoothing is for classes": Mlp(label_smoothing=0.1),
        "train.mixup is for classes": METHODS["full"](mixup=0.2),
        "train.attack is for classes": METHODS["full"](attack={}),
    }
    for told, method in refused.items():
        with pytest.raises(ConfigurationError, match="of the images of photos is a number") as caught:
            check_labels(method, "photos", "number")
        assert told in str(caught.value)
    for name in ("linear", "ridge", "mlp", "knn", "full", "partial", "lp_ft", "lora", "gradual", "dynamic"):
        check_labels(METHODS[name](), "photos", "number")
    assert {name for name, kind in METHODS.items() if kind.unlabelled and kind.numbers} == set()
