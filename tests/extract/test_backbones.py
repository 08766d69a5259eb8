"""Networks cut off at the layer whose output becomes the features."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from tasks.errors import ConfigurationError, WeightsError
from tasks.extract.backbones import Backbone, last_classifier, load_backbone, load_network, penultimate_layer
from tasks.extract.weights import IMAGENET_MEAN, IMAGENET_STD, Weights, build_network, read_weights

FAMILIES = ["resnet_32px", "resnet18", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x0_5",
            "mnasnet0_5", "regnet_y_400mf", "densenet121", "googlenet", "convnext_tiny", "swin_t"]  # fmt: skip


def images(count: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def standardised(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels / 255 - mean) / std


def weights_of(network: nn.Module) -> Weights:
    return Weights(network.state_dict(), IMAGENET_MEAN, IMAGENET_STD, "test")


def seen_by_classifier(network: nn.Module, kind: type[nn.Module], pixels: torch.Tensor) -> torch.Tensor:
    """What reaches the last layer of a kind in a plain forward pass of the whole network."""
    seen: list[torch.Tensor] = []
    last = [module for module in network.modules() if isinstance(module, kind)][-1]
    handle = last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    with torch.inference_mode():
        network.eval()(standardised(pixels))
    handle.remove()
    return seen[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_what_the_networks_own_classifier_sees(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(name, num_classes=7)
    backbone = Backbone(network, weights_of(network), [], "avg").eval()
    with torch.inference_mode():
        features = backbone(images())
    expected = seen_by_classifier(network, nn.Linear, images())
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4)


def test_vision_transformers_features_are_what_its_head_sees() -> None:
    network = torchvision.models.VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32)
    nn.init.normal_(network.heads.head.weight)
    backbone = Backbone(network, weights_of(network), [], "avg").eval()
    with torch.inference_mode():
        features = backbone(images(size=32))
    torch.testing.assert_close(features, seen_by_classifier(network, nn.Linear, images(size=32)), rtol=1e-3, atol=1e-4)


def test_several_layers_stand_side_by_side_in_the_order_asked_for() -> None:
    weights = read_weights("resnet_32px", "builtin", Path())
    names = ["expand", "blocks.0", "flatten"]
    together, outline = load_backbone("resnet_32px", weights, names)
    assert outline.layers == tuple(names)
    with torch.inference_mode():
        alone = [load_backbone("resnet_32px", weights, [name])[0](images(size=32)) for name in names]
        torch.testing.assert_close(together(images(size=32)), torch.cat(alone, dim=1))


def test_a_transformers_tokens_are_averaged_or_the_class_token_is_taken() -> None:
    network = torchvision.models.VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32)
    seen: list[torch.Tensor] = []
    network.encoder.ln.register_forward_hook(lambda module, inputs, output: seen.append(output))
    network.eval()(standardised(images(size=32)))
    for pool, wanted in (("token", seen[0][:, 0]), ("avg", seen[0].mean(1)), ("flatten", seen[0].flatten(1))):
        features = Backbone(network, weights_of(network), ["encoder.ln"], pool)(images(size=32))  # type: ignore[arg-type]
        torch.testing.assert_close(features, wanted, rtol=1e-3, atol=1e-4)


def test_token_of_a_network_without_tokens_is_a_configuration_error() -> None:
    backbone, _ = load_backbone("resnet_32px", read_weights("resnet_32px", "builtin", Path()), ["expand"], "token")
    with pytest.raises(ConfigurationError, match=r"no tokens: name a layer"):
        backbone(images(size=32))


@pytest.mark.slow
def test_maps_of_swin_transformers_are_averaged_over_their_area_not_over_channels() -> None:
    network = build_network("swin_t", num_classes=7)
    seen: list[torch.Tensor] = []
    network.norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.inference_mode():
        network.eval()(standardised(images()))
        features = Backbone(network, weights_of(network), ["norm"], "avg")(images())
    torch.testing.assert_close(features, seen[0].mean((1, 2)), rtol=1e-3, atol=1e-4)


def test_network_without_a_linear_layer_is_cut_before_its_last_convolution() -> None:
    network = build_network("squeezenet1_1", num_classes=7)
    assert last_classifier(network) == "classifier.1"
    with torch.inference_mode():
        features = Backbone(network, weights_of(network), [], "avg").eval()(images())
    expected = seen_by_classifier(network, nn.Conv2d, images()).mean((2, 3))
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("layer, channels, side", [("blocks", 160, 4), ("blocks.0", 64, 16), ("expand", 512, 4)])
def test_layer_is_taken_by_name_and_pool_decides_its_width(layer: str, channels: int, side: int) -> None:
    weights = read_weights("resnet_32px", "builtin", Path())
    network = load_network("resnet_32px", weights)
    seen: list[torch.Tensor] = []
    network.get_submodule(layer).register_forward_hook(lambda module, inputs, output: seen.append(output))
    pixels = images(size=32)
    averaged, outline = load_backbone("resnet_32px", weights, [layer])
    flat, _ = load_backbone("resnet_32px", weights, [layer], "flatten")
    with torch.inference_mode():
        network((pixels / 255 - torch.tensor(weights.mean).view(3, 1, 1)) / torch.tensor(weights.std).view(3, 1, 1))
        assert outline.layers == (layer,)
        assert averaged(pixels).shape == (2, channels)
        assert flat(pixels).shape == (2, channels * side * side)
        torch.testing.assert_close(flat(pixels), seen[0].flatten(1), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(averaged(pixels), seen[0].mean((2, 3)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("typo, meant", [("block", "blocks"), ("expnd", "expand"), ("layer4", "the last ones are")])
def test_wrong_layer_is_answered_with_names_near_it(typo: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=f"no layer '{typo}'.*{meant}"):
        load_backbone("resnet_32px", read_weights("resnet_32px", "builtin", Path()), [typo])


def test_wrong_network_is_answered_with_what_was_meant() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'mobilenet_v2'"):
        build_network("mobilenetv2")


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 7, 1500])
def test_number_of_source_classes_does_not_matter(classes: int) -> None:
    network = build_network("mobilenet_v3_small", num_classes=classes).eval()
    backbone, outline = load_backbone("mobilenet_v3_small", weights_of(network))
    assert outline.num_classes == classes
    with torch.inference_mode():
        torch.testing.assert_close(
            backbone(images()), seen_by_classifier(network, nn.Linear, images()), rtol=1e-3, atol=1e-4
        )


def test_weights_without_their_classifier_are_fine() -> None:
    network = build_network("resnet18").eval()
    state = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    backbone, _ = load_backbone("resnet18", Weights(state, IMAGENET_MEAN, IMAGENET_STD, "test"))
    with torch.inference_mode():
        torch.testing.assert_close(
            backbone(images()), seen_by_classifier(network, nn.Linear, images()), rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_classifiers_among_the_weights_are_left_out(name: str) -> None:
    with torch.device("meta"):
        network = torchvision.models.get_model(name, aux_logits=True, init_weights=False, num_classes=5)
    state = {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in network.state_dict().items()}
    assert any("aux" in key.lower() for key in state)
    loaded = load_network(name, Weights(state, IMAGENET_MEAN, IMAGENET_STD, "test"))
    assert not any("aux" in key.lower() for key in loaded.state_dict())


def test_weights_of_another_architecture_are_refused_with_what_is_wrong() -> None:
    weights = weights_of(build_network("resnet18"))
    for name in ("resnet34", "mobilenet_v2", "resnet_32px"):
        with pytest.raises(WeightsError, match=f"does not belong to {name}.*missing"):
            load_backbone(name, weights)
    with pytest.raises(WeightsError, match="of another shape"):
        load_backbone("wide_resnet50_2", weights_of(build_network("resnet50")))


def test_missing_and_unknown_tensors_are_refused_by_name() -> None:
    state = build_network("resnet_32px").state_dict()
    without = {key: value for key, value in state.items() if key != "blocks.1.conv2.weight"}
    with pytest.raises(WeightsError, match=r"1 missing \(first: blocks.1.conv2.weight\)"):
        load_backbone("resnet_32px", Weights(without, IMAGENET_MEAN, IMAGENET_STD, "test"))
    with pytest.raises(WeightsError, match=r"1 unknown \(first: extra\)"):
        load_backbone("resnet_32px", Weights(state | {"extra": torch.ones(1)}, IMAGENET_MEAN, IMAGENET_STD, "test"))


def test_node_before_the_classifier_has_a_name_in_the_graph() -> None:
    assert penultimate_layer(build_network("resnet_32px")) == "flatten"
    assert penultimate_layer(build_network("resnet18")) == "flatten"


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("source, classes", [("imagenet", 1000), ("inat_insect", 1022), ("inat_bird", 965)])
def test_real_weights_of_three_source_tasks_load(shared: Path, source: str, classes: int) -> None:
    path = shared / "weights" / f"mobilenet_v2-{source}.safetensors"
    backbone, outline = load_backbone("mobilenet_v2", read_weights("mobilenet_v2", str(path), path))
    assert outline.num_classes == classes
    with torch.inference_mode():
        assert backbone(images(size=96)).shape == (2, 1280)
