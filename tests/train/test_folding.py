"""Convolutions that take on their frozen batch norms: the same network in all but speed."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tasks.extract.backbones import Backbone, load_network
from tasks.extract.weights import read_weights
from tasks.train.tuning.depthwise import with_fast_gradients
from tasks.train.tuning.folding import fold_frozen_norms, folding_pays


def backbone(name: str, layers: tuple[str, ...] = ()) -> Backbone:
    """With statistics, scales and shifts that matter."""
    weights = read_weights(name, "random", Path())
    network = load_network(name, weights)
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            for tensor, least, spread in (
                (module.weight, 0.5, 1.0), (module.bias, -0.2, 0.4), (module.running_mean, -0.2, 0.4),
                (module.running_var, 0.5, 1.0),
            ):  # fmt: skip
                assert tensor is not None
                tensor.data = least + spread * torch.rand(tensor.shape, generator=generator)
    cut = Backbone(network, weights, layers, "avg")
    with_fast_gradients(network)
    return cut


def images(size: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def modes(network: nn.Module, frozen: bool) -> None:
    network.eval().train()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.train(not frozen)


def learned(network: Backbone) -> dict[str, torch.Tensor]:
    """Features and gradients of a step."""
    torch.manual_seed(0)
    network.zero_grad()
    features = network(images())
    (features * torch.randn(features.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    return {"features": features.detach()} | {
        name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("mobilenet_v2", 52), ("resnet18", 20), ("resnet_32px", 11), ("efficientnet_b0", 49),
        ("timm/tf_efficientnet_lite0", 49),
    ],
)  # fmt: skip
def test_features_and_gradients_are_those_of_the_network_as_it_was(name: str, count: int) -> None:
    plain = backbone(name)
    folded = copy.deepcopy(plain)
    assert fold_frozen_norms(folded.trunk) == count
    for network in (plain, folded):
        modes(network, frozen=True)
    wanted, found = learned(plain), learned(folded)
    assert wanted.keys() == found.keys() and len(wanted) > 2 * count
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-3 * float(value.abs().max()), msg=key)


def test_norms_that_follow_the_images_are_left_to_the_bit() -> None:
    plain = backbone("mobilenet_v2")
    folded = copy.deepcopy(plain)
    fold_frozen_norms(folded.trunk)
    for network in (plain, folded):
        modes(network, frozen=False)
    wanted, found = learned(plain), learned(folded)
    assert all(torch.equal(found[key], value) for key, value in wanted.items())
    state = plain.state_dict()
    assert state.keys() == folded.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in folded.state_dict().items())
    assert not torch.equal(
        state["trunk.features.0.1.running_mean"],
        backbone("mobilenet_v2").state_dict()["trunk.features.0.1.running_mean"],
    )


def test_a_convolution_whose_own_output_is_a_feature_keeps_it() -> None:
    layers = ("features.17.conv.2", "features.18")
    plain = backbone("mobilenet_v2", layers)
    folded = copy.deepcopy(plain)
    assert fold_frozen_norms(folded.trunk) == 51
    torch.testing.assert_close(folded.eval()(images()), plain.eval()(images()), rtol=1e-3, atol=1e-3)


def test_a_copy_has_norms_of_its_own() -> None:
    network = backbone("resnet18").eval()
    fold_frozen_norms(network.trunk)
    before = network(images()).detach()
    other = copy.deepcopy(network)
    for module in other.modules():
        if isinstance(module, _BatchNorm):
            module.weight.data.zero_()
    assert torch.equal(network(images()).detach(), before) and not torch.allclose(other(images()), before)


def test_norms_that_stand_before_convolutions_are_left_alone() -> None:
    plain = backbone("densenet121")
    folded = copy.deepcopy(plain)
    count = fold_frozen_norms(folded.trunk)
    assert 0 < count < sum(isinstance(module, _BatchNorm) for module in folded.modules()) / 1.5
    torch.testing.assert_close(folded.eval()(images()), plain.eval()(images()), rtol=1e-3, atol=1e-3)


def test_on_a_gpu_networks_of_many_small_layers_are_left_as_they_are() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    small, dense = backbone("mobilenet_v2").trunk, backbone("resnet18").trunk
    assert folding_pays(small, cpu) and folding_pays(dense, cpu) and folding_pays(dense, gpu)
    assert not folding_pays(small, gpu)
