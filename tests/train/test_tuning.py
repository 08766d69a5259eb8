"""Training through the backbone: what moves, at what rate, towards what, and what is kept."""

from __future__ import annotations

import copy
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.nn.functional import cross_entropy

from tasks.errors import ConfigurationError
from tasks.extract.backbones import load_backbone
from tasks.extract.inference import prepared
from tasks.preprocess import pictures as pictures_module
from tasks.preprocess import recipe as recipe_module
from tasks.train.heads import Head
from tasks.train.methods import METHODS
from tasks.train.methods.gradual import Gradual
from tasks.train.targets import class_weights, merit
from tasks.train.task import Task
from tasks.train.tuning import labels as labels_module
from tasks.train.tuning.batches import Batches
from tasks.train.tuning.blocks import blocks_of
from tasks.train.tuning.clock import Clock, ending_after
from tasks.train.tuning.method import ThroughBackbone
from tasks.train.tuning.module import TuningModule, schedule
from tasks.train.tuning.network import Loss, Tuning
from tasks.train.tuning.run import tune
from tests.train.prepared import Prepared

BLOCKS = ["stem.0", "blocks.0", "blocks.1", "blocks.2.conv1", "blocks.2.conv2", "blocks.2.shortcut.1", "expand.0"]
STATISTICS = ("running_mean", "running_var")


def method(name: str = "full", **keys: Any) -> ThroughBackbone:
    given = {"epochs": 2, "batch_size": 16, "augment": "flip"} | keys
    found = METHODS[name].model_validate(given)
    assert isinstance(found, ThroughBackbone)
    return found


@pytest.fixture
def task(few: Prepared, tmp_path: Path) -> Task:
    """Eighty digits of ten classes to learn from, in batches of 16 five steps an epoch."""
    return few.task(tmp_path / "checkpoints")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """The time of a training, which passes where ``monotonic.return_value`` is raised."""
    now = Mock()
    now.monotonic.return_value = 0.0
    monkeypatch.setattr("tasks.train.tuning.clock.time", now)
    monkeypatch.setattr("tasks.train.tuning.watch.time", now)
    return now


def moved(task: Task, state: dict[str, torch.Tensor]) -> set[str]:
    """Names of what differs from the pretrained weights by a bit, apart from the network's own classifier."""
    start = {name: value for name, value in task.weights.state.items() if not name.startswith("head.")}
    return {name for name, value in start.items() if not torch.equal(value, state[name])}


def tuning_of(task: Task, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> Tuning:
    """The pretrained network with an untrained head, which its gradients pass."""
    network, backbone = task.network()
    torch.manual_seed(0)
    head = Head(task.features.width, task.classes)
    return Tuning(network, backbone, head, blocks_of(network, backbone.trunk), Loss("class"), batches, False)


class Rates(Callback):
    """Remembers the learning rates of each step by block, the head's last, and which blocks could learn."""

    def __init__(self) -> None:
        self.steps: list[dict[int, set[float]]] = []
        self.free: list[list[bool]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, TuningModule)
        found: dict[int, set[float]] = {}
        for group in trainer.optimizers[0].param_groups:
            found.setdefault(group["block"], set()).add(group["lr"])
        self.steps.append(found)
        self.free.append([all(p.requires_grad for p in block.parameters) for block in pl_module.tuning.blocks])


# What moves


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{}, {"ema": 0.7}, {"optimiser": "sgd", "precision": "fp32"}], ids=str)
def test_frozen_blocks_and_their_statistics_stay_to_the_bit_and_the_others_move(
    task: Task, keys: dict[str, Any]
) -> None:
    fit = tune(method("partial", blocks=2, batch_norm="update", **keys), task)
    assert fit.backbone is not None
    learning = ("blocks.2.shortcut.1", "blocks.2.shortcut.2", "expand.0", "expand.1")
    assert moved(task, fit.backbone.state) == {name for name in task.weights.state if name.startswith(learning)}
    assert set(fit.backbone.state) >= set(task.weights.state)


@pytest.mark.slow
def test_full_moves_everything_and_frozen_statistics_nothing_but_parameters(task: Task, tmp_path: Path) -> None:
    names = {name for name in task.weights.state if not name.startswith("head.")}
    fit = tune(method(batch_norm="update"), task)
    assert fit.backbone is not None and moved(task, fit.backbone.state) == names
    other = Task(**vars(task) | {"folder": tmp_path / "frozen"})
    fit = tune(method(), other)
    assert fit.backbone is not None
    assert moved(task, fit.backbone.state) == {name for name in names if not name.endswith(STATISTICS)}


@pytest.mark.slow
def test_named_layers_learn_and_a_wrong_name_is_told_before_anything_takes_time(task: Task) -> None:
    fit = tune(method("partial", layers=["blocks.1", "expand"], epochs=1), task)
    assert fit.rates is not None
    assert fit.rates.loc[fit.rates["rate"] > 0, "block"].tolist() == ["blocks.1", "expand.0"]
    broken = Task(**vars(task) | {"folder": task.folder / "none", "dataset": None})  # no image can be read
    with pytest.raises(
        ConfigurationError, match=r"train.layers: no block .* 'blocks.7'; near it: blocks\.[012]"
    ) as told:
        tune(method("partial", layers=["blocks.7"]), broken)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.slow
def test_the_trunk_computes_as_in_training_in_every_epoch(task: Task) -> None:
    class Graphs(Callback):
        def __init__(self) -> None:
            self.seen: list[bool] = []

        def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            trunk = pl_module.tuning.backbone.trunk  # type: ignore[union-attr]
            self.seen.append(trunk.training and trunk.graph is trunk.train_graph)  # type: ignore[union-attr]

    tune(method(), task, watch := Graphs())
    assert watch.seen == [True] * 10


# At what rate


@pytest.mark.slow
def test_a_blocks_rate_is_what_the_method_asks_times_the_schedule(task: Task) -> None:
    asked = method("full", layer_decay=0.5, learning_rate=1e-3, warmup=0.3)
    fit = tune(asked, task, watch := Rates())
    depth = [0.5 ** (6 - place) for place in range(7)]
    assert asked.by_depth(7) == depth
    for step, found in enumerate(watch.steps):
        factor = schedule(step, 10, 0.3)
        assert found == {place: {1e-3 * rate * factor} for place, rate in enumerate([*depth, 1.0])}
    assert len(watch.steps) == 10
    assert fit.rates is not None and fit.rates["rate"].tolist() == depth * 2
    assert fit.rates["block"].tolist() == BLOCKS * 2 and fit.rates["epoch"].tolist() == [1] * 7 + [2] * 7


def test_the_schedule_rises_to_the_full_rate_and_falls_along_a_cosine_to_nothing() -> None:
    values = [schedule(step, 100, 0.2) for step in range(101)]
    assert values[:20] == [(step + 1) / 21 for step in range(20)]
    assert values[20] == 1 and values[60] == pytest.approx(0.5) and values[100] == pytest.approx(0, abs=1e-12)
    assert values[40] == pytest.approx(0.5 * (1 + 2**-0.5))
    assert [schedule(step, 4, 0.0) for step in (0, 2)] == [1.0, pytest.approx(0.5)]
    assert [schedule(step, 4, 1.0) for step in range(4)] == [0.2, 0.4, 0.6, 0.8]


@pytest.mark.slow
def test_blocks_begin_to_learn_from_the_top(task: Task) -> None:
    tune(method("gradual", epochs=4, unfrozen_by=0.75, head="zero"), task, watch := Rates())
    assert [sum(free) for free in watch.free[::5]] == [3, 5, 7, 7]
    assert all(free == sorted(free) for free in watch.free)


@pytest.mark.slow
def test_dynamic_rates_are_shares_of_the_largest_and_kept_for_every_epoch(task: Task) -> None:
    fit = tune(method("dynamic", epochs=3, full_from="largest", least_rate=0.65), task, watch := Rates())
    assert fit.rates is not None and fit.rates.groupby("epoch")["block"].apply(list).tolist() == [BLOCKS] * 3
    by_epoch = fit.rates.groupby("epoch")["rate"]
    assert by_epoch.max().tolist() == [1.0] * 3 and (by_epoch.min() == 0).all()
    assert ((fit.rates["rate"] == 0) | fit.rates["rate"].between(0.65, 1)).all()
    assert [[rate > 0 for rate in rates] for _, rates in by_epoch] == watch.free[::5]


class Norms:
    """A training whose blocks have these relative gradient norms."""

    def __init__(self, *norms: float) -> None:
        self.norms = list(norms)

    def relative_gradients(self, count: int) -> list[float]:
        return self.norms


@pytest.mark.parametrize(
    ("given", "rates"),
    [
        ({}, [0.5, 1, 1, 0]),
        ({"layer_decay": 0.5}, [0.0625, 0.25, 0.5, 0]),
        ({"least_rate": 0.6}, [0, 1, 1, 0]),
        ({"full_from": "largest"}, [0.25, 0.5, 1, 0]),
        ({"full_from": "largest", "least_rate": 0.3}, [0, 0.5, 1, 0]),
    ],
)
def test_dynamic_rates_follow_from_the_norms(given: dict[str, Any], rates: list[float]) -> None:
    tuning = cast(Tuning, Norms(0.1, 0.2, 0.4, 0.0))
    assert method("dynamic", **given).rates(0, tuning) == pytest.approx(rates)


@pytest.mark.slow
def test_dynamic_frees_every_block_while_a_head_of_zeros_gives_none_a_gradient(task: Task) -> None:
    fit = tune(method("dynamic", epochs=2, head="zero", layer_decay=0.5, least_rate=0.65), task)
    assert fit.rates is not None
    first, second = (rates.tolist() for _, rates in fit.rates.groupby("epoch")["rate"])
    assert first == [0.5 ** (6 - place) for place in range(7)]
    assert second != first and 0.0 in second


def test_under_norms_that_follow_the_images_the_head_is_told_of_what_they_will_give(task: Task) -> None:
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
    tuning = tuning_of(task, [(images, torch.zeros(16).long())])
    for block in tuning.blocks:
        for norm in block.batch_norms:
            assert norm.running_var is not None
            norm.running_var.fill_(1e8)  # as if untrained: features would be close to nothing
    before = {name: tensor.clone() for name, tensor in tuning.backbone.state_dict().items()}
    tuning.standardise_as_learned([1.0] * 7)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tuning.backbone.state_dict().items())
    seen = tuning.head.standardised(tuning.backbone(images)).detach()
    assert seen.mean(0).abs().max() < 1e-3
    assert seen.std(0, correction=0).median() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("learns", [["stem"], ["blocks.1", "expand"]], ids=str)
def test_the_head_is_told_of_the_norms_that_follow_and_of_those_that_stay(task: Task, learns: list[str]) -> None:
    images = torch.stack([task.pictures()[0].whole(index, 32) for index in range(64)])
    tuning = tuning_of(task, [(images, torch.zeros(64).long())])
    rates = [float(name.startswith(tuple(learns))) for name in BLOCKS]
    tuning.standardise_as_learned(rates)
    tuning.set_rates(rates)
    seen = tuning.backbone(images).detach()
    expected = Head(task.features.width, task.classes).standardise_like(seen)
    torch.testing.assert_close(tuning.head.std, expected.std)
    torch.testing.assert_close(tuning.head.mean, expected.mean)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "same"),
    [
        ({}, True),
        ({"batch_norm": "update"}, False),
        ({"batch_norm": "update", "head": "probe"}, True),
    ],
)
def test_a_head_of_zeros_has_the_statistics_of_frozen_features_where_norms_are_frozen(
    task: Task, keys: dict[str, Any], same: bool
) -> None:
    fit = tune(method("full", **keys), task)
    expected = Head(task.features.width, task.classes).standardise_like(task.plain[0])
    assert torch.equal(fit.head.std, expected.std) is same


class Gradients(Callback):
    """Remembers the norm of what each step but the last was made with, and whether it was scaled down."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_before_zero_grad(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if gradients:
            self.norms.append(torch.nn.utils.get_total_norm(gradients).item())


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_gradients_are_scaled_down_to_the_norm_that_is_asked_for(task: Task, tmp_path: Path, optimiser: str) -> None:
    found = {}
    for clip in (0.0, 0.01, 1e6):
        keys = {"clip": clip, "optimiser": optimiser, "precision": "fp32", "learning_rate": 1e-6, "l2_sp": 0.1}
        tune(method(**keys), replace(task, folder=tmp_path / str(clip)), watch := Gradients())
        found[clip] = watch.norms
    assert len(found[0.0]) > 5 and min(found[0.0]) > 0.01
    assert found[0.01] == pytest.approx([0.01] * len(found[0.0]), rel=1e-3)
    assert found[1e6] == pytest.approx(found[0.0], rel=1e-3)


@pytest.mark.slow
def test_trials_and_seeds_decode_the_images_and_solve_the_probe_once(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[object] = []
    solved: list[object] = []
    pixels_of, fit_linear = pictures_module.pixels_of, labels_module.fit_linear
    for module in (pictures_module, recipe_module):
        monkeypatch.setattr(module, "pixels_of", lambda path, *_: decoded.append(path) or pixels_of(path))
    monkeypatch.setattr(labels_module, "fit_linear", lambda *given: solved.append(given) or fit_linear(*given))
    first = tune(method("lp_ft"), replace(task, folder=task.folder / "first"))
    count = len(decoded)
    assert count == len(set(decoded)) > 0
    again = tune(method("lp_ft"), replace(task, folder=task.folder / "again"))
    assert len(decoded) == count and len(solved) == 1
    assert all(torch.equal(first.head.state_dict()[name], value) for name, value in again.head.state_dict().items())
    larger = tune(method("lp_ft", sizes=[40]), replace(task, folder=task.folder / "larger"))
    assert len(decoded) > count and larger.score >= 0


@pytest.mark.slow
def test_relative_gradients_are_autograds_and_measuring_them_changes_nothing(task: Task) -> None:
    pictures, targets = task.pictures()
    images = torch.stack([pictures.whole(index, 32) for index in range(24)])
    batches = [(images[part], targets[part]) for part in torch.arange(24).split(8)]
    tuning = tuning_of(task, batches)
    tuning.set_rates([0.0, 0.0, *[1.0] * 5])

    exact = copy.deepcopy(tuning).eval()
    for parameter in exact.parameters():
        parameter.requires_grad_(True)
    loss = torch.stack([cross_entropy(exact(images), targets) for images, targets in batches[:2]]).mean()
    expected = []
    for block in exact.blocks:
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, block.parameters, retain_graph=True)])
        expected.append(float(gradient.norm() / torch.cat([p.detach().flatten() for p in block.parameters]).norm()))

    def everything() -> list[Any]:
        modes = [module.training for module in tuning.modules()]
        learning = [(p.requires_grad, p.grad) for p in tuning.parameters()]
        return [modes, learning, tuning.backbone.trunk.graph is tuning.backbone.trunk.train_graph]  # type: ignore[union-attr]

    before, state = everything(), copy.deepcopy(tuning.state_dict())
    measured = tuning.relative_gradients(2)
    assert measured == pytest.approx(expected, rel=1e-4) and min(measured) > 0
    assert everything() == before
    assert all(torch.equal(value, state[name]) for name, value in tuning.state_dict().items())
    assert tuning.relative_gradients(100) == pytest.approx(tuning.relative_gradients(3))


# Towards what


@pytest.mark.slow
def test_what_pulls_back_is_the_strength_times_how_far_a_weight_is(task: Task) -> None:
    class Pull(Callback):
        steps = 0

        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.start = [p.detach().clone() for p in self._tuned(pl_module)]

        def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            self.before = [(p.grad.clone(), p.detach().clone()) for p in self._tuned(pl_module)]

        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            for parameter, start, (gradient, weight) in zip(
                self._tuned(pl_module), self.start, self.before, strict=True
            ):
                assert torch.equal(parameter.grad, gradient.add(weight - start, alpha=0.25))
            self.steps += 1

        def _tuned(self, pl_module: Any) -> list[nn.Parameter]:
            return [p for block in pl_module.tuning.blocks for p in block.parameters]

    tune(method(l2_sp=0.25, clip=0), task, watch := Pull())
    assert watch.steps == 10


@pytest.mark.slow
def test_the_stronger_the_pull_the_nearer_the_pretrained_weights(few: Prepared, tmp_path: Path) -> None:
    class Away(Callback):
        def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            state = pl_module.tuning.states()[0]  # type: ignore[operator,union-attr]
            pairs = [(task.weights.state[name], state[name]) for name in moved(task, state)]
            self.found = sum(float((end - start).square().sum()) for start, end in pairs)

    away = []
    for strength in (0.0, 1.0, 30.0):
        task = few.task(tmp_path / str(strength))
        tune(method(l2_sp=strength, weight_decay=0.0, clip=0), task, watch := Away())
        away.append(watch.found)
    assert away[0] > 1.5 * away[1] > 2 * away[2] > 0


def test_the_loss_smooths_targets_and_weighs_classes(few: Prepared, tmp_path: Path) -> None:
    rows = few.dataset.read_manifest()
    rare = few.with_rows(rows.drop(rows.query("split == 'train' and label in ['1', '2']").index[2:]), tmp_path)
    task = rare.task(tmp_path / "checkpoints")
    targets = task.pictures()[1]

    class Losses(Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            logits, targets = torch.randn(6, 10), torch.arange(6)
            self.found = pl_module.tuning.criterion(logits, targets)  # type: ignore[operator,union-attr]
            self.expected = cross_entropy(logits, targets, weight=weights, label_smoothing=0.2)

    weights = class_weights(targets, 10)
    assert weights.max() > 2 * weights.min()
    tune(method(label_smoothing=0.2, balance="weights", epochs=1), task, watch := Losses())
    assert torch.equal(watch.found, watch.expected)


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{}, {"mixup": 0.4, "cutmix": 1.0, "label_smoothing": 0.1}], ids=str)
def test_images_of_several_labels_train_the_backbone(shapes: Prepared, tmp_path: Path, keys: dict[str, Any]) -> None:
    task = shapes.task(tmp_path / "checkpoints")
    fit = tune(method(head="zero", batch_size=64, **keys), task)
    assert fit.head.multi_label and fit.head.classes == 3
    assert fit.score == fit.curves["validation/average_precision"].max() > 0.7
    assert fit.backbone is not None and moved(task, fit.backbone.state)


# What is kept


@pytest.mark.slow
def test_the_average_of_the_weights_is_kept_and_not_the_last_ones(task: Task) -> None:
    class Averages(Callback):
        def __init__(self) -> None:
            self.average: dict[str, torch.Tensor] = {}

        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            self.last = pl_module.tuning.states()[0]  # type: ignore[operator,union-attr]
            for name, value in self.last.items():
                if value.is_floating_point():
                    self.average[name] = self.average.get(name, value).lerp(value, 1 - 0.8)

    fit = tune(method(epochs=1, ema=0.8, batch_norm="update"), task, watch := Averages())
    assert fit.backbone is not None
    for name, average in watch.average.items():
        assert torch.equal(fit.backbone.state[name], average), name
    assert not torch.equal(watch.last["stem.0.weight"], watch.average["stem.0.weight"])


@pytest.mark.slow
def test_the_best_epoch_is_kept_with_its_figures(task: Task) -> None:
    fit = tune(method(epochs=3, batch_norm="update", precision="fp32"), task)
    best = int(fit.chosen["epoch"]) - 1
    assert fit.score == fit.curves["validation/accuracy"][best] == fit.curves["validation/accuracy"].max()
    assert fit.curves["step"].tolist() == [1, 2, 3] and fit.curves["train/loss"].is_monotonic_decreasing
    assert fit.backbone is not None
    network, _ = task.network()
    network.load_state_dict(fit.backbone.state)
    network.head = fit.head
    squares, targets = task.squares()
    images = torch.stack([squares[index] for index in range(len(targets))]).float()
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) * 255 for part in (task.weights.mean, task.weights.std))
    with torch.inference_mode():
        logits = network.eval()((images - mean) / std)
    assert (logits.argmax(1) == targets).double().mean().item() == fit.score


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{}, {"precision": "bf16", "ema": 0.5, "batch_norm": "update"}], ids=str)
def test_epochs_are_compared_by_what_will_be_extracted_and_served(task: Task, keys: dict[str, Any]) -> None:
    fit = tune(method(epochs=2, **keys), task)
    assert fit.backbone is not None
    squares, targets = task.squares()
    backbone, _ = load_backbone("resnet_32px", fit.backbone, task.features.layers, task.features.pool)
    served = prepared(backbone, torch.device("cpu"), torch.float32)
    with torch.inference_mode():
        logits = fit.head(served(torch.stack([squares[index] for index in range(len(targets))])))
    row = fit.curves.iloc[int(fit.chosen["epoch"]) - 1]
    assert row["validation/accuracy"] == merit(logits, targets) == fit.score
    assert row["validation/loss"] == pytest.approx(cross_entropy(logits, targets).item(), rel=1e-5)


@pytest.mark.slow
def test_training_ends_when_it_gets_no_better_or_when_it_is_told_to(task: Task, tmp_path: Path) -> None:
    fit = tune(method(epochs=9, patience=2, learning_rate=1e-9, head="probe"), task)
    assert fit.curves["step"].tolist() == [1, 2, 3]

    class Enough(Callback):
        def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            trainer.should_stop = trainer.current_epoch == 1

    other = Task(**vars(task) | {"folder": tmp_path / "told"})
    assert tune(method(epochs=9), other, Enough()).curves["step"].tolist() == [1, 2]
    assert tune(method(epochs=9), other).curves["step"].tolist() == [1, 2]  # what was ended is over


def test_training_ends_in_time_in_the_middle_of_an_epoch_and_its_rate_has_fallen_by_then(task: Task, now: Mock) -> None:
    rates: list[float] = []

    class Steps(Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            now.monotonic.return_value += 0.1

        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[-1]["lr"])

    fit = tune(method("lp_ft", epochs=100, warmup=0.0, minutes=1.25 / 60), task, Steps())
    # A hundred epochs of five steps would take 50 s; the last two or three of these steps are a part of one.
    assert len(fit.curves) == 3 and 12 <= len(rates) <= 13
    rate = method().learning_rate
    assert rates == sorted(rates, reverse=True) and rates[0] > 0.9 * rate and rates[-1] < 0.1 * rate
    assert fit.score == fit.curves["validation/accuracy"].max()
    again = tune(method("lp_ft", epochs=100, warmup=0.0, minutes=1.25 / 60), task)
    assert again.score == fit.score  # it is over, and is not begun again
    assert fit.curves["images"].iloc[-1] == len(rates) * method().batch_size


@pytest.mark.parametrize(("left", "steps"), [(None, 21), (2.0, 10)])
def test_a_slow_first_step_does_not_end_a_training_and_who_asked_for_it_may_have_less_time(
    task: Task, now: Mock, left: float | None, steps: int
) -> None:
    counted: list[int] = []

    class Steps(Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            now.monotonic.return_value += 0.1 if counted else 1.0  # it waits for its images
            counted.append(trainer.global_step)

    with ending_after(left):
        tune(method("lp_ft", epochs=100, minutes=3.0 / 60), task, Steps())
    # An epoch has five steps and, by the guess, is looked at in 0.17 s; a look as such takes no time here.
    assert steps - 1 <= len(counted) <= steps


def test_ctrl_c_is_heard_as_what_it_is_and_the_next_one_too(task: Task) -> None:
    class Interrupted(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        tune(method("lp_ft"), task, Interrupted())
    assert signal.getsignal(signal.SIGINT) is before


def test_blocks_are_freed_in_time_where_that_is_shorter_than_the_epochs() -> None:
    gradual = Gradual(epochs=20, minutes=5, unfrozen_by=0.5)
    tuning = Mock(blocks=[None] * 10)
    learning = []
    for epoch, tuning.over in enumerate((0.0, 0.25, 0.5, 0.75)):
        learning.append(sum(rate > 0 for rate in gradual.rates(epoch, tuning)))
    assert learning == [1, 5, 10, 10]


def test_the_time_of_a_training_counts_through_kills() -> None:
    clock = Clock(limit=10.0)
    clock.validation = 1.0
    clock.go_on_from(4.4, 1.0)
    assert clock.passed == pytest.approx(4.4, abs=0.1) and clock.share == pytest.approx(0.5, abs=0.02)
    assert Clock().share == 0.0


def test_the_same_values_are_asked_for_while_training_only(task: Task) -> None:
    class Asked(Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.found = torch.are_deterministic_algorithms_enabled()

    tune(method(epochs=1), task, watch := Asked())
    assert watch.found and not torch.are_deterministic_algorithms_enabled()


# Batches


def batches_of(task: Task, **keys: Any) -> Batches:
    pictures, targets = task.pictures()
    given = {
        "batch_size": 32, "epochs": 4, "sizes": (32,), "augment": "crop", "least": 0.4, "balance": "none", "seed": 0,
    }  # fmt: skip
    return Batches(pictures, targets, task.classes, **given | keys)


def test_an_epoch_shows_each_image_at_most_once_in_an_order_of_its_own(task: Task) -> None:
    batches = batches_of(task, augment="none")
    pictures = [batches.pictures.whole(index, 32).numpy().tobytes() for index in range(80)]
    orders = []
    for batches.epoch in range(2):
        seen = [image.numpy().tobytes() for images, _ in batches for image in images]
        orders.append([pictures.index(image) for image in seen])
        assert len(seen) == 64 == len(batches) * 32 and len(set(seen)) == 64
        assert [target for _, targets in batches for target in targets] == [batches.targets[i] for i in orders[-1]]
    assert orders[0] != orders[1]


def test_batches_that_processes_make_are_those_of_a_thread(task: Task) -> None:
    alone, made = (list(batches_of(task, processes=count)) for count in (0, 2))
    assert len(alone) == len(made) == 2
    for (images, targets), (others, theirs) in zip(alone, made, strict=True):
        assert torch.equal(images, others) and torch.equal(targets, theirs)


def test_processes_that_share_batches_see_the_views_of_one(task: Task) -> None:
    whole = list(batches_of(task))
    shares = [list(batches_of(task, share=(rank, 3))) for rank in range(3)]
    for number, (images, targets) in enumerate(whole):
        for rank, share in enumerate(shares):
            assert torch.equal(share[number][0], images[rank::3]) and torch.equal(share[number][1], targets[rank::3])


def test_images_grow_in_equal_parts_of_the_training(task: Task) -> None:
    batches = batches_of(task, sizes=(16, 24, 40), epochs=6)
    sides = []
    for batches.epoch in range(6):
        sides.append(next(iter(batches))[0].shape[-1])
    assert sides == [16, 16, 24, 24, 40, 40]
    assert {images.shape[-1] for images, _ in batches_of(task, sizes=(16, 24), epochs=1, batch_size=8)} == {16, 24}


def test_images_grow_in_time_where_that_is_shorter_than_the_epochs(task: Task) -> None:
    batches = batches_of(task, sizes=(16, 24, 40), epochs=600)
    sides = []
    for batches.over in (0.0, 0.3, 0.4, 0.7, 1.0):
        sides.append(next(iter(batches))[0].shape[-1])
    assert sides == [16, 16, 24, 40, 40]


def test_balanced_sampling_draws_rare_classes_as_often(few: Prepared, tmp_path: Path) -> None:
    rows = few.dataset.read_manifest()
    rare = few.with_rows(rows.drop(rows.query("split == 'train' and label > '4'").index[5:]), tmp_path)
    batches = batches_of(rare.task(tmp_path), balance="sampling", batch_size=9, epochs=10, augment="none")
    drawn: list[int] = []
    for batches.epoch in range(10):
        drawn += [int(target) for _, targets in batches for target in targets]
    counts = torch.tensor(drawn).bincount(minlength=10)
    assert len(batches.targets) == 45 and counts[5] > 5 * counts[0] / 10 and counts[0] > 20
