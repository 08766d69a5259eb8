"""Attacks find what can be found: they are held against one step, noise, and networks whose slopes hide."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from tasks.evaluate.config import AttackConfig, EvaluateConfig
from tasks.evaluate.inspection.attacks import hardness, measure_attacks, told
from tasks.evaluate.inspection.inspect import inspect_candidate
from tasks.evaluate.inspection.looking import Looker
from tasks.evaluate.scores.intervals import Sample
from tasks.extract.backbones import load_backbone
from tasks.extract.engine import Engine
from tasks.extract.weights import read_weights
from tasks.preprocess.recipe import Recipe
from tasks.records import Preprocessed
from tasks.train.fusion.parts import Part
from tasks.train.heads import Head, Kind
from tasks.train.solvers import fit_linear
from tasks.workspace import Workspace
from tests.evaluate.test_door import make_dataset
from tests.evaluate.test_inspection import CPU, fitted, patched, prepared

LEVELS = [f"{level}/255" for level in (1, 2, 3, 4)]


def engine_of(precision: torch.dtype = torch.float32, crop: float = 1.0, layer: str = "blocks.1") -> Engine:
    weights = read_weights("resnet_32px", "builtin", Path("nowhere"))
    backbone, _ = load_backbone("resnet_32px", weights, [layer])
    return Engine(backbone, Recipe(32, crop=crop), CPU, precision, compile="never")


@pytest.fixture(scope="module")
def looker() -> Looker:
    engine = engine_of()
    return Looker(engine, fitted(engine, "linear"), Recipe(32))


@pytest.fixture(scope="module")
def images() -> tuple[torch.Tensor, np.ndarray]:
    pixels, labels, _ = patched(16)
    return pixels, labels.numpy()


@pytest.fixture(scope="module")
def plain(looker: Looker, images: tuple[torch.Tensor, np.ndarray]) -> pd.DataFrame:
    """What attacks of `LEVELS` leave of the right answers."""
    return measured(looker, *images)


def measured(looker: Looker, pixels: torch.Tensor, targets: np.ndarray, **keys: Any) -> pd.DataFrame:
    config = AttackConfig.model_validate({"radii": LEVELS, "steps": 4} | keys)
    return measure_attacks(looker, pixels, targets, Sample(len(pixels)), config)[0]


def test_accuracy_falls_with_the_radius_from_that_of_clean_images(
    looker: Looker, images: tuple[torch.Tensor, np.ndarray], plain: pd.DataFrame
) -> None:
    (pixels, targets), table = images, plain
    clean = (looker.probabilities(pixels).argmax(1).numpy() == targets).mean()
    assert table["radius"].tolist() == pytest.approx([level / 255 for level in range(5)])
    assert table["accuracy"].iloc[0] == clean > 0.9 and (table["accuracy"].diff().iloc[1:] <= 0).all()
    assert table["accuracy"].iloc[-1] < 0.2 < table["accuracy"].iloc[1]
    assert (table["low"] <= table["accuracy"]).all() and (table["accuracy"] <= table["high"]).all()


def judged(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The images that the network is asked about, as they are asked about."""
    seen: list[torch.Tensor] = []
    judge = Looker.probabilities

    def probabilities(self: Looker, given: torch.Tensor) -> torch.Tensor:
        seen.append(given)
        return judge(self, given)

    monkeypatch.setattr(Looker, "probabilities", probabilities)
    return seen


def test_moved_images_stay_within_the_radius_and_the_range_of_pixels(
    looker: Looker, images: tuple[torch.Tensor, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, targets = images
    seen = judged(monkeypatch)
    # So small that none falls, and all are seen at each step.
    table = measured(looker, pixels[:8], targets[:8], radii=["0.05/255"], steps=5)
    assert table["accuracy"].iloc[1] == table["accuracy"].iloc[0] == 1 and len(seen) == 1 + 6
    for moved in seen[1:]:
        assert moved.dtype == torch.float32 and moved.min() >= 0 and moved.max() <= 255
        assert (moved - pixels[:8]).abs().max() <= 0.05 + 1e-4


def test_each_restart_begins_elsewhere_and_the_worst_of_all_counts(
    looker: Looker, images: tuple[torch.Tensor, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, targets = images
    once, often = (measured(looker, pixels, targets, radii=["2/255"], steps=1, restarts=count) for count in (1, 5))
    assert often["accuracy"].iloc[1] <= once["accuracy"].iloc[1] < 1
    seen = judged(monkeypatch)
    measured(looker, pixels[:8], targets[:8], radii=["0.05/255"], steps=1, restarts=3)  # so small that none falls
    starts = seen[1::2]
    assert len(seen) == 1 + 3 * 2 and len(starts) == 3
    assert not any(torch.equal(*each) for each in pairwise(starts))
    seen.clear()
    fallen = measured(looker, pixels[:8], targets[:8], radii=["32/255"], steps=20, restarts=3)
    assert fallen["accuracy"].iloc[1] == 0 and len(seen) <= 1 + 21, "what has fallen is attacked no more"


def test_many_steps_find_at_least_what_one_does_and_far_more_than_noise(
    looker: Looker, images: tuple[torch.Tensor, np.ndarray], plain: pd.DataFrame
) -> None:
    pixels, targets = images
    labels, clean = torch.from_numpy(targets), pixels.float()
    free = clean.clone().requires_grad_()
    [slope] = torch.autograd.grad(cross_entropy(looker.head(looker.engine.backbone(free)), labels), free)
    for level in (2, 3):
        one = (clean + level * slope.sign()).clamp(0, 255)
        noise = clean + level * (2 * torch.rand(clean.shape, generator=torch.Generator().manual_seed(level)) - 1)
        by_one, by_noise = ((looker.probabilities(each).argmax(1) == labels).float().mean() for each in (one, noise))
        by_many = plain["accuracy"].iloc[level]
        assert by_many <= by_one and by_many < by_noise - 0.1


def test_a_network_that_is_very_sure_is_not_taken_for_a_robust_one(
    looker: Looker, images: tuple[torch.Tensor, np.ndarray], plain: pd.DataFrame
) -> None:
    pixels, targets = images
    sure = copy.deepcopy(looker.head)
    sure.temperature.fill_(1e-4)
    free = pixels.float().requires_grad_()
    loss = cross_entropy(sure(looker.engine.backbone(free)), torch.from_numpy(targets))
    [slope] = torch.autograd.grad(loss, free)
    assert (slope.abs().amax((1, 2, 3)) == 0).float().mean() > 0.8  # what an attack by cross-entropy would see
    hidden = measured(replace(looker, head=sure), pixels, targets)
    assert hidden["accuracy"].to_numpy() == pytest.approx(plain["accuracy"].to_numpy(), abs=0.1)


def test_an_attack_climbs_where_cross_entropy_does_and_where_that_is_flat() -> None:
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(64, 5), torch.randint(0, 5, (64,))
    several = torch.randint(0, 2, (64, 5)).float()
    for targets, loss in ((labels, cross_entropy), (several, binary_cross_entropy_with_logits)):
        by_loss, by_hardness = (
            torch.autograd.grad(of(free := logits.clone().requires_grad_(), targets).sum(), free)[0]
            for of in (loss, hardness)
        )
        directions = (torch.nn.functional.normalize(each, dim=1) for each in (by_loss, by_hardness))
        torch.testing.assert_close(*directions, rtol=1e-3, atol=1e-5)
        sure = 500 * (2 * several - 1) if targets is several else 500 * torch.nn.functional.one_hot(labels, 5).float()
        free = sure.requires_grad_()
        assert not torch.autograd.grad(loss(free, targets), free)[0].any()
        assert torch.autograd.grad(hardness(free, targets).sum(), free)[0].any(1).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mlp", "cosine", "neighbours"])
def test_heads_of_any_kind_are_attacked(kind: Kind, images: tuple[torch.Tensor, np.ndarray]) -> None:
    engine, (pixels, targets) = engine_of(), images
    table = measured(Looker(engine, fitted(engine, kind), Recipe(32)), pixels, targets, radii=["4/255"])
    assert table["accuracy"].iloc[0] > 0.9 and table["accuracy"].iloc[1] < 0.4


@pytest.mark.slow
def test_networks_of_few_bits_are_attacked_by_slopes_of_many(
    looker: Looker, images: tuple[torch.Tensor, np.ndarray]
) -> None:
    pixels, targets = images
    coarse = Looker(engine_of(torch.bfloat16), looker.head, Recipe(32))
    table = measured(coarse, pixels, targets, radii=["4/255"])
    assert table["accuracy"].iloc[0] > 0.9 and table["accuracy"].iloc[1] < 0.2
    assert coarse.engine.backbone.precision == torch.bfloat16


@pytest.mark.slow
def test_several_networks_are_attacked_at_once() -> None:
    first, other = engine_of(), engine_of(crop=0.8, layer="blocks.2")
    looker = Looker(first, Head(1, 1), Recipe(40), (other,))
    pixels, labels, _ = patched(40)
    large = torch.nn.functional.interpolate(pixels.float(), size=[40, 40], mode="nearest").to(torch.uint8)
    features = looker.features(large)
    parts = [Part(engine.forward(pixels[:1]).shape[1]) for engine in looker.engines]
    head = fit_linear((features, labels), (features, labels), 2, parts=parts).head.requires_grad_(False)
    table = measured(replace(looker, head=head), large[:8], labels[:8].numpy(), radii=["8/255"])
    assert table["accuracy"].tolist() == [1.0, pytest.approx(0, abs=0.2)]


def test_right_answers_without_a_slope_are_told(looker: Looker, images: tuple[torch.Tensor, np.ndarray]) -> None:
    pixels, targets = images
    config = AttackConfig(radii=("1/255",), steps=1)  # type: ignore[arg-type]
    blind = copy.deepcopy(looker.head)
    blind.layers.weight.fill_(0)
    table, _, flat = measure_attacks(replace(looker, head=blind), pixels, targets, Sample(16), config)
    assert flat == 1 and list(told(table, flat, "test")) == [
        "test: 100% of the right answers have no slope that an attack could follow, so figures under attack say "
        "nothing (16 images)"
    ]
    table, _, flat = measure_attacks(looker, pixels, targets, Sample(16), config)
    assert flat == 0 and not list(told(table, flat, "test"))


def test_radii_are_in_order_and_none_twice() -> None:
    config = AttackConfig.model_validate({"radii": ["8/255", "2/255", 2 / 255]})
    assert config.radii == pytest.approx((2 / 255, 8 / 255)) and AttackConfig().radii == pytest.approx(
        (2 / 255, 4 / 255)
    )
    assert EvaluateConfig(robustness=0, explain=0, attack=config).inspects


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
@pytest.mark.filterwarnings("error")
def test_an_inspection_leaves_what_is_right_under_attack(tmp_path: Path, workspace: Workspace, several: bool) -> None:
    (tmp_path / "images").mkdir()
    dataset = make_dataset(tmp_path / "images", several)
    candidate, features = prepared(dataset, tmp_path)
    seen = Preprocessed(fingerprint="p", size=32, fit="squash", preview=tmp_path, mean=(0, 0, 0), std=(1, 1, 1))
    config = EvaluateConfig(robustness=0, explain=0, attack=AttackConfig(steps=1, images=12))
    inspection = inspect_candidate(config, dataset, seen, features, candidate, workspace)
    table = pd.read_csv(inspection.report / "attacks.csv")
    measure = "f1_samples" if several else "accuracy"
    assert list(table.columns) == ["radius", "images", measure, "low", "high"] and (table["images"] == 12).all()
    assert {"test/attacked_2_255", "test/attacked_4_255"} <= set(inspection.metrics)
    assert inspection.images["attacked_4_255"] == 12
    assert inspection.metrics["test/attacked_4_255"][0] == pytest.approx(table[measure].iloc[2], abs=1e-6)
    assert inspection.metrics["test/attacked_4_255"][0] < table[measure].iloc[0]
