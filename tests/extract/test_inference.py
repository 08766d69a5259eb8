"""A backbone made ready for inference computes what the plain network computes."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tasks.extract.backbones import Backbone, load_backbone
from tasks.extract.inference import compiled, compiling_pays, flops, matrix_rate, prepared
from tasks.extract.precision import MOST_NOISE, choose_precision, noise
from tasks.extract.weights import IMAGENET_MEAN, IMAGENET_STD, Weights, build_network, read_weights
from tasks.preprocess.recipe import Recipe

CPU = torch.device("cpu")
FAMILIES = {"vgg11": 64, "resnet18": 64, "inception_v3": 96, "mobilenet_v2": 64, "efficientnet_b0": 64,
            "convnext_tiny": 64, "vit_b_16": 224, "swin_t": 64}  # fmt: skip
"""A network of each family, and the side of its input."""


def pictures(count: int, size: int) -> torch.Tensor:
    """Smooth images, each of its own colours: more like photos than noise is."""
    small = torch.randint(0, 256, (count, 3, 4, 4), generator=torch.Generator().manual_seed(0)).float()
    return nn.functional.interpolate(small, size=size, mode="bicubic").clamp(0, 255).to(torch.uint8)


def lively(network: nn.Module) -> nn.Module:
    """Give batch norms statistics and scales of their own, so that folding them wrongly would show."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1, generator=generator)
            module.running_var.uniform_(0.7, 1.3, generator=generator)
            module.weight.data.uniform_(0.8, 1.2, generator=generator)
            module.bias.data.uniform_(-0.1, 0.1, generator=generator)
    return network.eval()


def plain(network: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """What reaches the classifier in the network as torchvision runs it, in fp32."""
    seen: list[torch.Tensor] = []
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    network((pixels / 255 - mean) / std)
    return seen[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_features_of_eight_families_are_those_of_the_plain_forward_pass(name: str) -> None:
    torch.manual_seed(0)
    network = lively(build_network(name, num_classes=7))
    pixels = pictures(8, FAMILIES[name])
    backbone = Backbone(network, Weights(network.state_dict(), IMAGENET_MEAN, IMAGENET_STD, "test"), [], "avg")
    wanted = plain(copy.deepcopy(network), pixels)
    exact = prepared(backbone, CPU, torch.float32)(pixels)
    rough = prepared(backbone, CPU, torch.bfloat16)(pixels)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in prepared(backbone, CPU, torch.float32).modules())
    torch.testing.assert_close(exact, wanted, rtol=2e-3, atol=2e-3 * float(wanted.std()))
    assert nn.functional.cosine_similarity(rough, wanted).min() > 0.999
    assert (rough - wanted).square().mean().sqrt() < 0.02 * wanted.square().mean().sqrt()


def test_preparing_leaves_the_backbone_as_it_is() -> None:
    backbone, _ = load_backbone("resnet18", read_weights("resnet18", "random", Path()))
    before = copy.deepcopy(backbone.state_dict())
    prepared(backbone, CPU, torch.bfloat16)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_layer_before_a_batch_norm_keeps_its_own_output() -> None:
    weights = read_weights("resnet18", "random", Path())
    backbone, _ = load_backbone("resnet18", weights, ["layer4.1.conv2", "layer4.1.bn2"])
    pixels = pictures(2, 64)
    torch.testing.assert_close(prepared(backbone, CPU, torch.float32)(pixels), backbone(pixels), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name, operations", [("vgg16", 30.9e9), ("resnet18", 3.6e9), ("mobilenet_v2", 0.6e9)])
def test_operations_are_those_that_are_published(name: str, operations: float) -> None:
    """Twice the multiply-adds in torchvision's table of weights, with the classifier of VGG left out."""
    layers = ["features"] if name == "vgg16" else []
    backbone, _ = load_backbone(name, read_weights(name, "random", Path()), layers)
    assert flops(backbone, 224) == pytest.approx(operations, rel=0.02)


def test_matrix_rate_is_that_of_this_machine() -> None:
    rate = matrix_rate(CPU, torch.float32, seconds=0.05)
    assert 1e9 < rate < 1e14


@pytest.mark.parametrize(
    "remaining, share, pays", [(1, 0.1, False), (3600, 0.1, True), (3600, 0.999, False), (1e6, 1.2, False)]
)
def test_compiling_pays_where_much_is_left_and_the_limit_is_not_reached(
    remaining: float, share: float, pays: bool
) -> None:
    assert compiling_pays(remaining, share) is pays


@pytest.mark.slow
@torch.inference_mode()
def test_compiled_pass_computes_the_same() -> None:
    backbone, _ = load_backbone("resnet_32px", read_weights("resnet_32px", "builtin", Path()))
    ready = prepared(backbone, CPU, torch.float32)
    forward = compiled(ready, pictures(8, 32))
    torch.testing.assert_close(forward(pictures(8, 32)), ready(pictures(8, 32)), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", ["imagenet", "inat_bird", "inat_insect"])
def test_bf16_loses_next_to_nothing_of_what_real_networks_tell_photos_apart_by(name: str, shared: Path) -> None:
    import tarfile

    path = shared / "weights" / f"mobilenet_v2-{name}.safetensors"
    backbone, _ = load_backbone("mobilenet_v2", read_weights("mobilenet_v2", str(path), path))
    with tarfile.open(shared / "datasets" / "hymenoptera.tar.gz") as archive:
        members = [member for member in archive if member.isfile() and member.name.endswith(".jpg")][:16]
        pixels = torch.stack([Recipe(224)(archive.extractfile(member).read()) for member in members])  # type: ignore[union-attr]
    exact, rough = (prepared(backbone, CPU, kind) for kind in (torch.float32, torch.bfloat16))
    assert noise(rough, exact, pixels) < 0.1 < MOST_NOISE
    with torch.inference_mode():
        assert nn.functional.cosine_similarity(rough(pixels), exact(pixels)).min() > 0.99


class Flat(Backbone):
    """Features that hardly differ between images."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = 100 + images.float().mean((2, 3)) / 1000
        return features.to(self.anchor.dtype).float()


def test_noise_is_measured_against_what_differs_between_images_not_against_the_whole() -> None:
    exact, rough = Flat(), Flat().to(torch.bfloat16)
    assert noise(exact, exact, pictures(8, 32)) == 0
    assert noise(rough, exact, pictures(8, 32)) > 1
    overflowing = Flat()
    overflowing.forward = lambda images: exact(images) * float("inf")  # type: ignore[method-assign]
    assert noise(overflowing, exact, pictures(8, 32)) == np.inf


def test_precision_is_what_was_asked_for() -> None:
    asked = {name: choose_precision(name, CPU) for name in ("bf16", "fp16", "fp32")}
    assert asked == {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    assert choose_precision("auto", CPU) in (torch.bfloat16, torch.float32)
    assert choose_precision("auto", torch.device("mps")) == torch.float32
