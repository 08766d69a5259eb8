"""Depth: every parameter that makes features belongs to one block, and blocks follow each other as data does."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from tasks.extract.backbones import Backbone
from tasks.extract.weights import IMAGENET_MEAN, IMAGENET_STD, Weights, build_network
from tasks.train.tuning.blocks import Block, blocks_of

# How many blocks a network has, its first and its last one.
KNOWN = {
    "mobilenet_v2": (19, "features.0", "features.18"),
    "resnet18": (9, "conv1", "layer4.1"),
    "vgg11": (10, "features.0", "classifier.3"),
    "densenet121": (8, "features.conv0", "features.denseblock4"),
    "vit_b_16": (15, "input", "encoder.layers.encoder_layer_11"),
    "swin_t": (16, "features.0.0", "features.7.1"),
    "convnext_tiny": (22, "features.0", "features.7.2"),
    "efficientnet_b0": (18, "features.0", "features.8"),
    "resnet_32px": (7, "stem.0", "expand.0"),
}


def cut(name: str, layer: str = "") -> tuple[nn.Module, nn.Module]:
    """A network without values, and what of it leads to a layer, by default to where its classifier begins."""
    with torch.device("meta"):
        network = build_network(name)
    weights = Weights({}, IMAGENET_MEAN, IMAGENET_STD, "")
    return network, Backbone(network, weights, (layer,) if layer else (), "avg").trunk


def in_use(network: nn.Module, blocks: list[Block]) -> list[int]:
    """Numbers of the blocks in the order in which their modules see an image."""
    place = {id(p): number for number, block in enumerate(blocks) for p in block.parameters}
    order: list[int] = []
    for module in network.modules():
        mine = [place[id(p)] for p in module.parameters(recurse=False) if id(p) in place]
        if mine and not list(module.children()):
            module.register_forward_hook(lambda *_, number=mine[0]: order.append(number))
    with torch.no_grad():
        network.eval()(torch.empty(1, 3, 224, 224, device="meta"))
    return order


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_every_parameter_that_makes_features_is_in_one_block_and_blocks_are_in_order(name: str) -> None:
    network, trunk = cut(name)
    blocks = blocks_of(network, trunk)
    assert (len(blocks), blocks[0].name, blocks[-1].name) == KNOWN[name]

    counted = Counter(id(p) for block in blocks for p in block.parameters)
    assert counted == Counter(id(p) for p in trunk.parameters())
    assert sum(map(len, blocks)) < sum(p.numel() for p in network.parameters())
    assert len({block.name for block in blocks}) == len(blocks)

    norms = [id(m) for m in trunk.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert Counter(id(m) for block in blocks for m in block.batch_norms) == Counter(norms)

    order = in_use(network, blocks)
    assert order == sorted(order) and len(order) > len(blocks) / 2


def test_a_network_that_is_cut_lower_has_no_blocks_above() -> None:
    blocks = blocks_of(*cut("resnet18", "layer2"))
    assert [block.name for block in blocks] == ["conv1", "layer1.0", "layer1.1", "layer2.0", "layer2.1"]


def test_a_layer_inside_a_block_leaves_the_part_of_the_block_that_leads_to_it() -> None:
    network, trunk = cut("resnet18", "layer4.1.conv1")
    last = blocks_of(network, trunk)[-1]
    assert last.name == "layer4.1" and [id(p) for p in last.parameters] == [id(network.layer4[1].conv1.weight)]


def test_a_norm_that_stands_alone_moves_with_the_block_before_it() -> None:
    network, trunk = cut("resnet18")
    first = blocks_of(network, trunk)[0]
    assert first.name == "conv1" and first.batch_norms == [network.bn1]
    assert [id(p) for p in first.parameters] == [id(p) for m in (network.conv1, network.bn1) for p in m.parameters()]


def test_a_module_of_more_than_half_of_all_parameters_is_opened() -> None:
    network = nn.Sequential(nn.Linear(4, 4), Pair(), nn.Linear(4, 2))
    names = [block.name for block in blocks_of(network, network[:2])]
    assert names == ["0", "1", "1.one", "1.two"]


class Pair(nn.Module):
    """Two layers and a parameter of its own, such as a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(4))
        self.one, self.two = nn.Linear(4, 40), nn.Linear(40, 4)
