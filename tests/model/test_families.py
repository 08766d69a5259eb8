"""Families of networks from both zoos, all the way: features, a head, a package that gives the same answers, and a step
of training through the backbone. Random weights and small images: what is tested is that every part fits."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tasks.extract.backbones import Backbone, load_backbone, load_network
from tasks.extract.inference import prepared
from tasks.extract.weights import Weights, read_weights
from tasks.model.classifier import ImageClassifier, package
from tasks.preprocess.recipe import Recipe
from tasks.train.heads import Head
from tasks.train.tuning.blocks import blocks_of
from tasks.train.tuning.folding import fold_frozen_norms
from tasks.train.tuning.low_rank import add_low_rank
from tasks.train.tuning.network import Loss, Tuning

FAMILIES = {
    "resnet_32px": 32, "mobilenet_v3_small": 64, "shufflenet_v2_x0_5": 64, "squeezenet1_1": 64, "vit_b_32": 64,
    "timm/resnet10t": 64, "timm/convnext_atto": 64, "timm/vit_tiny_patch16_224": 64, "timm/eva02_tiny_patch14_224": 56,
    "timm/deit_tiny_distilled_patch16_224": 64, "timm/swin_tiny_patch4_window7_224": 112,
    "timm/mobilenetv4_conv_small": 64, "timm/tf_efficientnet_lite0": 64, "timm/regnety_002": 64,
    "timm/vit_small_patch14_dinov2": 56, "timm/vit_small_patch16_dinov3": 64, "timm/vit_base_patch32_siglip_256": 64,
    "timm/mixer_s32_224": 224, "timm/maxvit_rmlp_pico_rw_256": 128, "timm/xcit_nano_12_p16_224": 64,
    "timm/levit_128s": 224, "timm/efficientvit_b0": 64,
}  # fmt: skip
"""Names, and the size of the images."""

SOME = ["timm/resnet10t", "timm/vit_tiny_patch16_224"]
TUNED = ["timm/tf_efficientnet_lite0", "timm/regnety_002", "timm/convnext_atto", "timm/swin_tiny_patch4_window7_224",
         "mobilenet_v3_small"]  # fmt: skip
ADAPTED = ["timm/eva02_tiny_patch14_224", "timm/vit_small_patch14_dinov2"]


def images(size: int, count: int = 4) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def check_package(name: str, size: int, folder: Path) -> None:
    """What is packaged answers as the parts do that it was made of, for images of another size than the network's."""
    weights = read_weights(name, "random", Path())
    backbone, outline = load_backbone(name, weights, size=size)
    recipe = Recipe(size, crop=0.875, interpolation="bicubic")
    photos = [np.asarray(photo.permute(1, 2, 0)) for photo in images(size + 20)]
    with torch.inference_mode():
        features = backbone(torch.stack([recipe(photo) for photo in photos]))
    assert features.ndim == 2 and features.isfinite().all() and features.std(0).max() > 0
    torch.manual_seed(0)
    head = Head(features.shape[1], 3)
    head.standardise_like(features)
    nn.init.normal_(head.layers.weight)  # type: ignore[arg-type]
    head.save(folder / "head.safetensors")
    (folder / "packed").mkdir()
    package(
        folder / "packed", outline=outline, weights=weights, recipe=recipe, precision="float32",
        head=folder / "head.safetensors", classes=["a", "b", "c"],
    )  # fmt: skip
    served = ImageClassifier.load(folder / "packed", "cpu")
    with torch.inference_mode():
        expected = head(features).softmax(1)
    torch.testing.assert_close(served.probabilities(photos), expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", SOME)
def test_networks_of_timm_are_packaged_and_served(name: str, tmp_path: Path) -> None:
    check_package(name, FAMILIES[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in SOME])
def test_every_family_is_packaged_and_served(name: str, tmp_path: Path) -> None:
    check_package(name, FAMILIES[name], tmp_path)


def tuning(name: str, rank: int = 0) -> tuple[Tuning, Weights]:
    """A network made ready to be trained, as `tasks.train.tuning.run` does it."""
    size = FAMILIES[name]
    weights = read_weights(name, "random", Path())
    network = load_network(name, weights, size=size)
    backbone = Backbone(network, weights, (), "avg")
    blocks = blocks_of(network, backbone.trunk)
    if rank:
        add_low_rank(network, blocks, rank, alpha=16.0)
    else:
        fold_frozen_norms(backbone.trunk)
    with torch.no_grad():
        head = Head(backbone.eval()(images(size)).shape[1], 3)
    return Tuning(network, backbone, head, blocks, Loss("class"), [], frozen_statistics=True), weights


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TUNED, *ADAPTED])
def test_a_step_through_the_backbone_moves_it_and_its_weights_make_the_same_features(name: str) -> None:
    learned, weights = tuning(name, rank=4 if name in ADAPTED else 0)
    pixels = images(FAMILIES[name])
    assert len(learned.blocks) > 2
    nn.init.normal_(learned.head.layers.weight)  # type: ignore[arg-type]
    learned.set_rates([1.0] * len(learned.blocks))
    trained = [parameter for parameter in learned.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-2)
    for _ in range(2):  # the first leaves what low rank begins with at zero
        optimiser.zero_grad()
        cross_entropy(learned(pixels), torch.tensor([0, 1, 2, 0])).backward()
        optimiser.step()
    with torch.inference_mode():
        after = learned.backbone.eval()(pixels)
    state, _ = learned.states()
    rebuilt, _ = load_backbone(name, Weights(state, weights.mean, weights.std, "tuned"), size=FAMILIES[name])
    frozen, _ = load_backbone(name, weights, size=FAMILIES[name])
    with torch.inference_mode():
        again = prepared(rebuilt, torch.device("cpu"), torch.float32)(pixels)
        before = frozen(pixels)
    torch.testing.assert_close(again, after, rtol=1e-2, atol=1e-3 * float(after.abs().max()))
    assert (after - before).abs().max() > 10 * (after - again).abs().max()


def test_a_frozen_norm_that_is_one_with_its_activation_is_folded_and_changes_nothing() -> None:
    weights = read_weights("timm/regnety_002", "random", Path())
    backbone, _ = load_backbone("timm/regnety_002", weights, ["s1.b1.conv3"])
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
    folded = copy.deepcopy(backbone)
    assert fold_frozen_norms(folded.trunk) >= 4
    ready = prepared(backbone, torch.device("cpu"), torch.float32)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ready.trunk.modules())
    with torch.inference_mode():
        expected = backbone.eval()(images(32))
        torch.testing.assert_close(folded.eval()(images(32)), expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(ready(images(32)), expected, rtol=1e-3, atol=1e-4)
