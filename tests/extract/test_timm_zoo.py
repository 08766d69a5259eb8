"""timm's networks: their names, weights and layers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.cait import Cait
from timm.models.convit import ConVit
from timm.models.deit import VisionTransformerDistilled
from timm.models.gemma4_vit import Gemma4VitEncoder
from timm.models.hiera import Hiera
from timm.models.mlp_mixer import MlpMixer
from timm.models.qwen3_vit import Qwen3VitEncoder
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_sam import VisionTransformerSAM
from timm.models.xcit import Xcit
from torch import nn

from tasks.errors import ConfigurationError, WeightsError
from tasks.extract import hub, timm_zoo
from tasks.extract.backbones import Ahead, Backbone, Pool, load_backbone, load_network, pooled
from tasks.extract.check import check_size
from tasks.extract.weights import Weights, build_network, read_weights

NAME = "timm/vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def weights() -> Weights:
    return read_weights(NAME, "random", Path())


def pixels(size: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_an_unknown_network_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match=r"no network 'timm/vit_smal_patch14_dinov2' in timm .*did you mean"):
        build_network("timm/vit_smal_patch14_dinov2")
    with pytest.raises(ConfigurationError, match=r"no network 'timm/resnet10t\.nobody'"):
        build_network("timm/resnet10t.nobody")
    with pytest.raises(ConfigurationError, match=r"no network 'timm/resnet10t\.'"):
        build_network("timm/resnet10t.")
    with pytest.raises(
        ConfigurationError, match=r"'timm/tf_efficientnet_b7_ns' is 'timm/tf_efficientnet_b7.ns_jft_in1k'"
    ):
        build_network("timm/tf_efficientnet_b7_ns")


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ConfigurationError, match="pip install timm"):
        build_network(NAME)


def test_weights_that_cannot_be_downloaded_are_named_with_repository_file_and_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("An error happened while trying to locate the file on the Hub. Please check\nyour connection")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(timm.models._hub, "hf_hub_download", refused)
    with pytest.raises(WeightsError) as told:
        read_weights("timm/resnet10t.c3_in1k", "pretrained", Path())
    line = str(told.value)
    assert len(line.splitlines()) == 1
    assert "model.safetensors of https://huggingface.co/timm/resnet10t.c3_in1k" in line and str(tmp_path) in line


def test_files_are_standardised_as_timm_says_unless_they_say_otherwise(weights: Weights, tmp_path: Path) -> None:
    save_file(weights.state, tmp_path / "plain.safetensors")
    save_file(weights.state, tmp_path / "told.safetensors", {"mean": "0.1,0.2,0.3", "std": "1,1,1"})
    assert read_weights(NAME, "a file", tmp_path / "plain.safetensors").mean == (0.5, 0.5, 0.5)
    assert read_weights(NAME, "a file", tmp_path / "told.safetensors").mean == (0.1, 0.2, 0.3)


def test_position_embeddings_follow_the_size_of_the_images(weights: Weights) -> None:
    network = load_network(NAME, weights, size=64)
    assert network.pos_embed.shape == (1, 1 + 4 * 4, 192)  # type: ignore[union-attr]
    own = weights.state["pos_embed"]
    corner = network.pos_embed[0, 1]  # type: ignore[index]
    # Four by four out of fourteen by fourteen: a corner is the mean of what lies there, roughly.
    near = own[0, 1:].reshape(14, 14, -1)[:3, :3].mean((0, 1))
    assert torch.nn.functional.cosine_similarity(corner, near, dim=0) > 0.8


def test_tokens_are_the_class_token_or_the_mean_of_the_patches(weights: Weights) -> None:
    network = load_network(NAME, weights, size=64)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (weights.mean, weights.std))
    with torch.inference_mode():
        tokens = network.forward_features((pixels(64) / 255 - mean) / std)  # type: ignore[operator]
    backbone = Backbone(network, weights, ["norm"], "token")
    with torch.inference_mode():
        torch.testing.assert_close(backbone(pixels(64)), tokens[:, 0], rtol=1e-3, atol=1e-4)
        backbone.pool = "avg"
        torch.testing.assert_close(backbone(pixels(64)), tokens[:, 1:].mean(1), rtol=1e-3, atol=1e-4)
    with pytest.raises(ConfigurationError, match="no class token"):
        pooled(tokens, "token", ahead=Ahead(0))


SMALL: dict[str, Any] = {"img_size": 64, "depth": 2, "embed_dim": 32, "num_heads": 2}


def cut(network: nn.Module, layer: str, pool: Pool) -> Backbone:
    return Backbone(network, Weights(network.state_dict(), (0.5,) * 3, (0.5,) * 3, "test"), [layer], pool)


@pytest.mark.parametrize(
    "network, layer", [
        (lambda: VisionTransformer(class_token=False, reg_tokens=4, global_pool="avg", **SMALL), "blocks.1"),
        (lambda: VisionTransformer(**SMALL), "patch_embed"),
        (lambda: MlpMixer(img_size=64, num_blocks=2, embed_dim=32), "blocks.1"),
        (lambda: Xcit(**SMALL), "blocks.1"), (lambda: Cait(**SMALL), "blocks.1"),
    ], ids=["registers", "before", "mixer", "xcit", "cait"],
)  # fmt: skip
def test_where_there_is_no_class_token_another_one_is_not_taken_for_it(
    network: Callable[[], nn.Module], layer: str
) -> None:
    backbone = cut(network(), layer, "token")
    with pytest.raises(ConfigurationError, match=rf"what {layer} gives, .* has no class token: "):
        backbone(pixels(64))
    seen = backbone.trunk((pixels(64) / 255 - 0.5) / 0.5)[layer]
    backbone.pool, registers = "avg", seen.shape[1] - 16  # of 4 by 4 patches, all are averaged
    torch.testing.assert_close(backbone(pixels(64)), seen[:, registers:].mean(1) if registers > 0 else seen.mean(1))


@pytest.mark.parametrize(
    "network, layer, before", [
        (lambda: VisionTransformer(reg_tokens=4, **SMALL), "blocks.1", 5),
        (lambda: VisionTransformerDistilled(**SMALL), "norm", 2), (lambda: Xcit(**SMALL), "norm", 1),
        (lambda: Cait(**SMALL), "norm", 1), (lambda: ConVit(local_up_to_layer=1, **SMALL), "blocks.1", 1),
    ], ids=["registers", "distilled", "xcit", "cait", "convit"],
)  # fmt: skip
def test_the_class_token_is_taken_from_where_it_is_added(
    network: Callable[[], nn.Module], layer: str, before: int
) -> None:
    backbone = cut(network(), layer, "token")
    seen = backbone.trunk((pixels(64) / 255 - 0.5) / 0.5)[layer]
    torch.testing.assert_close(backbone(pixels(64)), seen[:, 0])
    backbone.pool = "avg"
    torch.testing.assert_close(backbone(pixels(64)), seen[:, before:].mean(1))


def test_blocks_with_channels_last_are_averaged_over_their_area_and_windows_are_refused() -> None:
    network = VisionTransformerSAM(window_size=2, **SMALL)
    backbone = cut(network, "blocks.1", "avg")
    seen = backbone.trunk((pixels(64) / 255 - 0.5) / 0.5)["blocks.1"]
    assert seen.shape == (2, 4, 4, 32)
    torch.testing.assert_close(backbone(pixels(64)), seen.mean((1, 2)))
    with pytest.raises(ConfigurationError, match=r"blocks.1.attn gives 4 rows for each image"):
        check_size(cut(network, "blocks.1.attn", "avg"), 64, "preprocess.size")


def test_features_of_an_encoder_without_a_classifier_are_what_it_gives() -> None:
    weights = Weights({}, (0.5,) * 3, (0.5,) * 3, "test")
    network = Qwen3VitEncoder(img_size=64, embed_dim=32, depth=2, num_heads=2, out_features=24).eval()
    backbone = Backbone(network, weights, [], "avg")
    with torch.inference_mode():
        given = network((pixels(64) / 255 - 0.5) / 0.5)
        torch.testing.assert_close(backbone(pixels(64)), given.mean(1))
    assert Backbone(network, weights, ["blocks.0"], "avg")(pixels(64)).shape == (2, 32)


def test_a_network_that_looks_at_values_is_refused_in_a_line() -> None:
    with torch.device("meta"):
        network = Gemma4VitEncoder(img_size=64, embed_dim=32, depth=2, num_heads=2)
    weights = Weights({}, (0.5,) * 3, (0.5,) * 3, "test")
    for layers in ([], ["blocks.1"]):
        with pytest.raises(ConfigurationError, match="Gemma4VitEncoder cannot be cut off at a layer"):
            Backbone(network, weights, layers, "avg")


def test_a_network_that_can_be_given_more_than_images_is_followed_without() -> None:
    network = Hiera(img_size=(64, 64), stages=(1, 1), embed_dim=16, q_pool=1, mask_unit_size=(4, 4)).eval()
    backbone = Backbone(network, Weights({}, (0.5,) * 3, (0.5,) * 3, "test"), [], "avg")
    with torch.inference_mode():
        features = network.forward_head(network.forward_features((pixels(64) / 255 - 0.5) / 0.5), pre_logits=True)
        torch.testing.assert_close(backbone(pixels(64)), features, rtol=1e-3, atol=1e-4)


def test_weights_that_lack_only_what_lies_above_the_layer_are_enough(weights: Weights) -> None:
    whole, _ = load_backbone(NAME, weights, ["blocks.1"], "avg", 64)
    above = re.compile(r"blocks\.([2-9]|1\d)\.|norm\.|head\.")
    lower = replace(weights, state={key: value for key, value in weights.state.items() if not above.match(key)})
    part, _ = load_backbone(NAME, lower, ["blocks.1"], "avg", 64)
    with torch.inference_mode():
        assert torch.equal(part(pixels(64)), whole(pixels(64)))
    with pytest.raises(WeightsError, match=r"missing \(first: blocks\.2\."):
        load_backbone(NAME, lower, ["blocks.2"], "avg", 64)


def test_the_file_of_downloaded_weights_is_found_in_the_hubs_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hub, "hub_folder", lambda: tmp_path)
    assert timm_zoo.weights_of_timm("timm/resnet10t.c3_in1k") is None
    file = tmp_path / "models--timm--resnet10t.c3_in1k" / "snapshots" / "abc" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    assert timm_zoo.weights_of_timm("timm/resnet10t") == file


@pytest.mark.shared
def test_real_weights_of_timm_and_a_base_without_classifier_load(shared: Path) -> None:
    folder = shared / "weights"
    lite, base = folder / "tf_efficientnet_lite0-imagenet.safetensors", folder / "vgg16-imagenet.safetensors"
    backbone, outline = load_backbone(
        "timm/tf_efficientnet_lite0", read_weights("timm/tf_efficientnet_lite0", "", lite)
    )
    assert outline.layers == ("global_pool.flatten",) and outline.num_classes == 1000
    backbone, _ = load_backbone("vgg16", read_weights("vgg16", "", base), ["features.16"])
    with torch.inference_mode():
        assert backbone(pixels(32)).shape == (2, 256)
