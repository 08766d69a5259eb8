"""Adversarial training: what is learned from, what stays as it is meanwhile, and what it gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from pydantic import ValidationError
from torch.nn.functional import cross_entropy, one_hot

from tasks.errors import ConfigurationError
from tasks.extract.backbones import load_backbone
from tasks.preprocess.recipe import load_pixels
from tasks.train.check import check_attack
from tasks.train.heads import Head
from tasks.train.methods import METHODS
from tasks.train.pgd import attacked
from tasks.train.solvers import Fit
from tasks.train.task import Task, targets_of
from tasks.train.tuning.adversary import loss_under_attack
from tasks.train.tuning.blocks import blocks_of
from tasks.train.tuning.config import AttackConfig
from tasks.train.tuning.network import Loss, Tuning
from tasks.train.tuning.run import tune
from tests.train.prepared import Prepared
from tests.train.test_tuning import method

RADIUS = 8 / 255


def attack(**keys: Any) -> AttackConfig:
    return AttackConfig.model_validate({"radius": RADIUS, "steps": 3} | keys)


@pytest.fixture
def task(few: Prepared, tmp_path: Path) -> Task:
    return few.task(tmp_path / "checkpoints")


def learning(task: Task, multi_label: bool = False, std: float | None = None, follows: bool = False) -> Tuning:
    """The pretrained network in the middle of a training, in which batch norms may follow the images."""
    network, backbone = task.network()
    if std is not None:
        backbone.std.fill_(std)
    torch.manual_seed(0)
    head = Head(task.features.width, task.classes, multi_label=multi_label).standardise_like(task.plain[0])
    blocks = blocks_of(network, backbone.trunk)
    tuning = Tuning(network, backbone, head, blocks, Loss("labels" if multi_label else "class"), [], not follows)
    tuning.set_rates([1.0] * len(blocks))
    return tuning


def batch(task: Task, count: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    squares, targets = task.squares()
    squares.load("decode")
    places = torch.arange(count) * len(targets) // count
    return torch.stack([squares[place] for place in places.tolist()]), targets[places]


def learned_from(tuning: Tuning, images: torch.Tensor, targets: torch.Tensor, config: AttackConfig) -> Any:
    """The loss of a batch, and the images that it was computed of."""
    seen: list[torch.Tensor] = []
    hook = tuning.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    loss = loss_under_attack(tuning, images, targets, config)
    hook.remove()
    return loss, seen


@pytest.mark.parametrize("std", [None, 1.0], ids=["std 58", "std 1"])
def test_a_batch_is_learned_from_within_the_radius_whatever_the_network_divides_by(
    task: Task, std: float | None
) -> None:
    tuning, (images, targets) = learning(task, std=std), batch(task)
    loss, seen = learned_from(tuning, images, targets, attack(share=0.5))
    moved = seen[-1]
    assert (moved - images)[:8].abs().max() == pytest.approx(8, abs=1e-3)
    assert moved.min() >= 0 and moved.max() <= 255 and torch.equal(moved[8:], images[8:].float())
    assert len(seen) == 4 and loss > tuning.loss(images, targets)
    loss.backward()
    assert all(parameter.grad is not None for parameter in tuning.parameters())


def test_nothing_follows_the_steps_of_an_attack(task: Task) -> None:
    tuning, (images, targets) = learning(task, follows=True), batch(task)
    norms = [norm for block in tuning.blocks for norm in block.batch_norms]
    assert norms and all(norm.training for norm in norms)
    tuning.blocks[0].parameters[0].requires_grad_(False)
    before = {name: value.clone() for name, value in tuning.state_dict().items()}
    modes = [module.training for module in tuning.modules()]
    wanted = [parameter.requires_grad for parameter in tuning.parameters()]
    graph = tuning.backbone.trunk.graph
    with tuning.standing_still():
        attacked(images.float(), lambda moved: tuning.loss(moved, targets), RADIUS, 3)
        assert not any(module.training for module in tuning.modules())
    assert all(torch.equal(value, before[name]) for name, value in tuning.state_dict().items())
    assert [module.training for module in tuning.modules()] == modes and tuning.backbone.trunk.graph is graph
    assert [parameter.requires_grad for parameter in tuning.parameters()] == wanted
    assert all(parameter.grad is None for parameter in tuning.parameters())
    # The batch itself moves them once, not once a step.
    count = int(norms[0].num_batches_tracked)
    loss_under_attack(tuning, images, targets, attack())
    assert int(norms[0].num_batches_tracked) == count + 1


def test_steps_make_a_batch_cost_more_than_chance_does(task: Task) -> None:
    tuning, (images, targets) = learning(task), batch(task)
    one, many = (float(loss_under_attack(tuning, images, targets, attack(steps=steps))) for steps in (1, 10))
    noise = RADIUS * 255 * (2 * torch.rand(images.shape) - 1)
    assert many > one > float(tuning.loss((images + noise).clamp(0, 255), targets))


def test_trades_draws_answers_under_attack_to_those_without(task: Task) -> None:
    tuning, (images, targets) = learning(task), batch(task)
    loss, seen = learned_from(tuning, images, targets, attack(trades=6.0))
    clean, moved = tuning(images), tuning(seen[-1])
    far = (clean.softmax(1) * (clean.log_softmax(1) - moved.log_softmax(1))).sum(1).mean()
    assert far > 0 and float(loss) == pytest.approx(float(cross_entropy(clean, targets) + 6 * far), rel=1e-4)
    assert (seen[-1] - images).abs().max() == pytest.approx(8, abs=1e-3)


@pytest.mark.parametrize("trades", [None, 6.0])
@pytest.mark.parametrize("kind", ["mixed", "several"])
def test_mixed_labels_and_several_ones_are_attacked_alike(task: Task, kind: str, trades: float | None) -> None:
    tuning, (images, targets) = learning(task, multi_label=kind == "several"), batch(task)
    shares = one_hot(targets, task.classes).float()
    shares = shares if kind == "several" else 0.7 * shares + 0.3 * shares.flip(0)
    loss = loss_under_attack(tuning, images, shares, attack(trades=trades))
    assert loss > tuning.loss(images, shares)


@pytest.mark.parametrize("kind", ["one", "several"])
def test_sure_answers_have_gradients(task: Task, kind: str) -> None:
    tuning, (images, targets) = learning(task, multi_label=kind == "several"), batch(task)
    with torch.no_grad():
        tuning.head.layers.weight.mul_(1e4)  # type: ignore[union-attr,operator]
    shares = one_hot(targets, task.classes).float() if kind == "several" else targets
    loss_under_attack(tuning, images, shares, attack(trades=6.0)).backward()
    assert all(part.grad is None or part.grad.isfinite().all() for part in tuning.parameters())


# What a training makes of it


@pytest.mark.slow
def test_the_epoch_that_is_best_under_attack_is_kept_and_a_broken_training_ends_like_an_unbroken_one(
    few: Prepared, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    class Killed(Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if trainer.current_epoch == 1:
                raise Stop

    how = method("lp_ft", attack={"radius": RADIUS, "steps": 1}, epochs=2)
    fit = tune(how, few.task(tmp_path / "whole"))
    under = fit.curves["validation/attacked_accuracy"]
    assert fit.attacked == under.max() and fit.chosen["epoch"] == under.argmax() + 1
    assert fit.score == fit.curves["validation/accuracy"][under.argmax()] >= fit.attacked == fit.compared
    task = few.task(tmp_path / "broken")
    with pytest.raises(Stop):
        tune(how, task, Killed())
    assert tune(how, task).curves.equals(fit.curves)


@pytest.mark.slow
def test_images_of_several_labels_are_compared_by_average_precision_under_attack(
    shapes: Prepared, tmp_path: Path
) -> None:
    fit = tune(method("lp_ft", attack={"steps": 1}, batch_size=64, epochs=1), shapes.task(tmp_path / "checkpoints"))
    assert fit.attacked == fit.curves["validation/attacked_average_precision"].max() < fit.score


@pytest.mark.slow
def test_what_was_trained_under_attack_bears_one_that_breaks_what_was_not(digits: Prepared, tmp_path: Path) -> None:
    rows = digits.dataset.read_manifest()
    some = digits.with_rows(rows.groupby(["split", "label"]).head(20), tmp_path)
    left = {}
    for name, keys in (("plain", {}), ("attacked", {"attack": {"radius": "4/255", "steps": 3}})):
        task = some.task(tmp_path / name)
        fit = tune(method("lp_ft", augment="none", epochs=6, learning_rate=1e-3, batch_norm="update", **keys), task)
        left[name] = right_under_attack(fit, task, 4 / 255)
    assert min(left["plain"][0], left["attacked"][0]) > 0.8
    assert left["attacked"][1] > left["plain"][1] + 0.25, left


def right_under_attack(fit: Fit, task: Task, radius: float) -> list[float]:
    """The share of 60 held-out images that are right, and that are under PGD."""
    assert fit.backbone is not None
    backbone, _ = load_backbone("resnet_32px", fit.backbone)
    backbone.requires_grad_(False)
    rows = task.rows("test").groupby("label").head(6)
    pixels, targets = load_pixels(task.paths(rows), task.recipe).float(), targets_of(task.dataset, rows)
    head = fit.head.requires_grad_(False)
    moved = attacked(pixels, lambda each: cross_entropy(head(backbone(each)), targets), radius, 10)
    with torch.no_grad():
        return [float((head(backbone(each)).argmax(1) == targets).float().mean()) for each in (pixels, moved)]


# What is asked for


@pytest.mark.parametrize("keys", [{"wise_ft": True}, {"soup": True}, {"search": {"soup": True}}])
def test_averages_that_are_chosen_by_images_without_an_attack_are_an_error(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="leave them out beside attack"):
        METHODS["lp_ft"].model_validate({"attack": {}} | keys)


def test_methods_that_cannot_be_attacked_are_not_compared_with_one_that_is() -> None:
    config = METHODS["lp_ft"].model_validate({"attack": {}, "search": {"methods": ["lp_ft", "linear"]}})
    with pytest.raises(ConfigurationError, match=r"linear \(train.search.methods\) does not"):
        check_attack(config)
    check_attack(METHODS["lp_ft"].model_validate({"attack": {}, "search": {"methods": ["full", "partial"]}}))


def test_seeds_and_trials_are_compared_under_attack_where_one_was_learned_under(task: Task) -> None:
    fit = Fit(Head(1, 2), 0.9, {}, None)  # type: ignore[arg-type]
    assert fit.compared == 0.9 and replace(fit, attacked=0.4).compared == 0.4
