"""timm's networks: their names, weights and layers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from tasks.errors import ConfigurationError, WeightsError
from tasks.extract import hub, timm_zoo
from tasks.extract.backbones import Backbone, load_backbone, load_network, pooled
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
    with pytest.raises(ConfigurationError, match="no tokens"):
        pooled(tokens, "token", prefix=0)  # of a transformer without a class token


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
