"""Low-rank adaptation: nothing changes before the first step, little learns, and in the end it is a network again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer

from tasks.errors import ConfigurationError
from tasks.extract.backbones import Backbone
from tasks.extract.weights import IMAGENET_MEAN, IMAGENET_STD, Weights, build_network
from tasks.train.heads import Head
from tasks.train.methods.lora import LoRA
from tasks.train.targets import Labelled
from tasks.train.task import Task
from tasks.train.tuning.network import Loss, Tuning
from tasks.train.tuning.run import _parts, tune
from tests.train.killed import assert_same, kill
from tests.train.prepared import Prepared


def transformer() -> nn.Module:
    torch.manual_seed(0)
    return VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=48, num_classes=5
    )


def windows() -> nn.Module:
    """A transformer that hands its matrices to a function."""
    torch.manual_seed(0)
    return SwinTransformer([4, 4], embed_dim=16, depths=[1, 2], num_heads=[2, 2], window_size=[4, 4], num_classes=5)


def convolutions() -> nn.Module:
    return build_network("resnet_32px", 5)


@dataclass
class Tiny(Task):
    """A task whose backbone is a network of a few thousand parameters."""

    make: Any = transformer

    @property
    def weights(self) -> Weights:
        return Weights(self.make().state_dict(), IMAGENET_MEAN, IMAGENET_STD, "tiny")

    def network(self) -> tuple[nn.Module, Backbone]:
        network = self.make().eval()
        return network, Backbone(network, self.weights, (), "avg")

    @property
    def plain(self) -> Labelled:
        return self._seen(False)

    @property
    def validation(self) -> Labelled:
        return self._seen(True)

    @torch.inference_mode()
    def _seen(self, validation: bool) -> Labelled:
        images, targets = images_of(self, validation)
        return self.network()[1](images), targets


def images_of(task: Task, validation: bool) -> Labelled:
    if validation:
        squares, targets = task.squares()
        return torch.stack([squares[index] for index in range(len(targets))]), targets
    pictures, targets = task.pictures()
    return torch.stack([pictures.whole(index, 32) for index in range(len(targets))]), targets


def tiny(few: Prepared, folder: Path, make: Any = transformer) -> Tiny:
    features = few.features.model_copy(update={"width": 32})
    return Tiny(few.dataset, few.preprocessed, features, Path(), folder, make=make)


def adapted(task: Task, **keys: Any) -> Tuning:
    """What `tune` trains, without its training."""
    parts = _parts(LoRA(**keys), task)
    return Tuning(parts.network, parts.backbone, Head(32, 10), parts.blocks, Loss("class"), [], False)


def changes(tuning: Tuning) -> dict[str, torch.Tensor]:
    return {name: p for name, p in tuning._whole[0].named_parameters() if name.endswith((".0.up", ".0.down"))}


@pytest.mark.parametrize("make, matrices", [(transformer, 2 * 4), (windows, 3 * 4 + 1)])
def test_nothing_changes_before_the_first_step_and_every_matrix_learns(
    few: Prepared, tmp_path: Path, make: Any, matrices: int
) -> None:
    task = tiny(few, tmp_path, make)
    tuning = adapted(task, rank=4)
    images = images_of(task, True)[0][:12]
    with torch.inference_mode():
        assert torch.equal(tuning.backbone(images), task.network()[1](images))
    tuning.set_rates([1.0] * len(tuning.blocks))
    learning = changes(tuning)
    assert len(learning) == 2 * matrices
    assert {id(p) for p in tuning.backbone.parameters() if p.requires_grad} == {id(p) for p in learning.values()}
    for name, change in learning.items():
        assert change.shape[name.endswith("down") - 1] == 4
    # B is zero, so A has no gradient yet.
    tuning(images).square().sum().backward()
    for name, change in learning.items():
        assert change.grad is not None and bool(change.grad.any()) == name.endswith("up"), name


@pytest.mark.parametrize("make", [transformer, windows])
def test_the_merged_network_computes_what_the_changed_one_does(few: Prepared, tmp_path: Path, make: Any) -> None:
    task = tiny(few, tmp_path, make)
    tuning = adapted(task, rank=3, alpha=6.0)
    for change in changes(tuning).values():
        nn.init.normal_(change, std=0.1)
    state, _ = tuning.states()
    names = set(task.weights.state)
    assert set(state) == names and all(state[name].shape == task.weights.state[name].shape for name in names)
    network, merged = task.network()
    images = images_of(task, True)[0][:12]
    with torch.inference_mode():
        before = merged(images)
        network.load_state_dict(state)
        torch.testing.assert_close(merged(images), tuning.eval().backbone(images), rtol=1e-4, atol=1e-5)
        assert (merged(images) - before).abs().max() > 0.01
    changed = {name for name in names if not torch.equal(state[name], task.weights.state[name])}
    assert changed and all(name.endswith("weight") and state[name].ndim == 2 for name in changed)
    assert len(changes(tuning)) == 2 * len(changed)  # and the network that is trained goes on


@pytest.mark.slow
def test_only_matrices_move_and_a_killed_training_ends_as_an_unbroken_one(few: Prepared, tmp_path: Path) -> None:
    method = LoRA(epochs=2, batch_size=20, rank=2, augment="flip", precision="fp32", ema=0.5, l2_sp=0.01)
    fit = tune(method, tiny(few, tmp_path / "whole"))
    task = tiny(few, tmp_path / "broken")
    kill(method, task)
    kept = torch.load(task.folder / "last.ckpt", weights_only=True)
    assert_same(tune(method, task), fit)
    assert fit.backbone is not None and fit.rates is not None
    start = task.weights.state
    moved = {name for name in start if not torch.equal(start[name], fit.backbone.state[name])}
    assert moved == {name for name in start if name.startswith("encoder.layers") and start[name].ndim == 2}
    assert set(fit.rates["block"]) == {"encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1"}
    tuned = [parameter for group in kept["optimizer_states"][0]["param_groups"] for parameter in group["params"]]
    assert len(tuned) == 2 * 8 + 2

    network, backbone = task.network()
    network.load_state_dict(fit.backbone.state)
    images, targets = images_of(task, True)
    with torch.inference_mode():
        logits = fit.head(backbone(images))
    assert (logits.argmax(1) == targets).double().mean().item() == pytest.approx(fit.score, abs=0.02)


def test_a_convolutional_network_is_told_in_one_line(few: Prepared, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="made for transformers such as vit_b_16") as told:
        tune(LoRA(), tiny(few, tmp_path, convolutions))
    assert len(str(told.value).splitlines()) == 1
