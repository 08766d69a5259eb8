"""Temperatures: the one that fits best, also where nothing is left to fit, and what it does to probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from tasks.evaluate.scores.calibration import calibration_error, gaps
from tasks.train.calibration import COLDEST, HOTTEST, calibrate, temperature
from tasks.train.heads import predict_probabilities
from tasks.train.solvers import fit_mlp


def answers(count: int, classes: int, several: bool, sharpness: float, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Logits that are ``sharpness`` times too certain, and targets drawn as they should be."""
    random = torch.Generator().manual_seed(seed)
    honest = 1.5 * torch.randn(count, classes, generator=random)
    if several:
        return sharpness * honest, (torch.rand(count, classes, generator=random) < honest.sigmoid()).float()
    return sharpness * honest, torch.multinomial(honest.softmax(1), 1, generator=random)[:, 0]


def loss(inverse: float, logits: np.ndarray, right: np.ndarray, several: bool) -> float:
    """Cross-entropy of scaled logits ``[N, C]`` for shares ``[N, C]``, summed over all images."""
    scaled = inverse * logits
    if several:
        return float((np.logaddexp(0, scaled) - right * scaled).sum())
    peaks = scaled.max(1, keepdims=True)
    logs = scaled - peaks - np.log(np.exp(scaled - peaks).sum(1, keepdims=True))
    return float(-(right * logs).sum())


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("sharpness", [0.2, 1.0, 20.0])
@pytest.mark.parametrize(("count", "classes"), [(12, 2), (400, 5)])
def test_the_temperature_is_the_minimum_of_the_loss_with_one_image_more_that_is_unknown(
    count: int, classes: int, sharpness: float, several: bool
) -> None:
    logits, targets = answers(count, classes, several, sharpness)
    right = targets.double().numpy() if several else np.eye(classes)[targets]
    right = (count * right + (0.5 if several else 1 / classes)) / (count + 1)
    options = {"bounds": (1 / HOTTEST, 100), "method": "bounded", "options": {"xatol": 1e-9}}
    oracle = minimize_scalar(loss, args=(logits.double().numpy(), right, several), **options)
    assert temperature(logits, targets) == pytest.approx(1 / oracle.x, rel=1e-3)
    assert temperature(10 * logits, targets) == pytest.approx(10 / oracle.x, rel=1e-3)


@pytest.mark.parametrize("several", [False, True])
def test_many_images_tell_how_much_too_certain_logits_are(several: bool) -> None:
    assert temperature(*answers(20_000, 4, several, sharpness=3.0)) == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("several", [False, True])
def test_images_told_apart_without_a_mistake_do_not_make_it_certain_of_everything(several: bool) -> None:
    logits = torch.eye(5)[torch.arange(100) % 5] * 2 - 1
    targets = (logits > 0).float() if several else logits.argmax(1)
    scaled = logits / temperature(logits, targets)
    surest = (scaled.sigmoid() if several else scaled.softmax(1)).amax(1)
    # One image more, of which nothing is known: it has as much of a share in each class.
    assert surest.tolist() == pytest.approx([1 - (0.5 if several else 0.8) / 101] * 100, abs=1e-4)


def test_logits_that_say_nothing_have_a_temperature_too() -> None:
    labels = torch.arange(30) % 3
    wrong = torch.eye(3)[(labels + 1) % 3]
    for logits in (wrong, torch.zeros(30, 3), torch.full((30, 3), torch.nan)):
        assert COLDEST <= temperature(logits, labels) <= HOTTEST
    assert temperature(wrong, labels) == pytest.approx(HOTTEST)


@pytest.mark.slow
def test_a_head_that_is_too_certain_is_not_any_more_on_images_that_it_has_never_seen() -> None:
    train, validation, test = (answers(count, 5, False, 1.0, seed) for seed, count in enumerate((150, 1000, 4000)))
    options = {"hidden": 64, "epochs": 200, "learning_rate": 1e-2, "batch_size": 32}
    fit = fit_mlp(train, train, 5, seed=0, **options)

    def look() -> tuple[float, torch.Tensor]:
        probabilities = predict_probabilities(fit.head, test[0])
        return calibration_error(gaps(test[1].numpy(), probabilities.numpy())), probabilities.argmax(1)

    error, guesses = look()
    calibrate(fit.head, validation)
    calmer, same = look()
    assert error > 0.2 and calmer < error / 4 and torch.equal(guesses, same)
    reached = float(fit.head.temperature)
    calibrate(fit.head, validation)
    assert float(fit.head.temperature) == pytest.approx(reached, rel=1e-3)
