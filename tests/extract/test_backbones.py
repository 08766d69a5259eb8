"""Networks cut off at the layer whose output becomes the features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import torchvision
from torch import nn

from tasks.errors import ConfigurationError, WeightsError
from tasks.extract.backbones import (
    Backbone,
    Pool,
    last_classifier,
    load_backbone,
    load_network,
    penultimate_layer,
    pooled,
)
from tasks.extract.check import check_size
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


@pytest.mark.parametrize("pool", ["avg", "flatten", "token"])
@pytest.mark.parametrize(
    "layer, what", [("encoder.layers.encoder_layer_1.self_attention", "tuple"), ("getattr_1", "Size"),
                    ("getitem_1", "int")],
)  # fmt: skip
def test_a_layer_that_gives_no_features_is_a_configuration_error(layer: str, what: str, pool: Pool) -> None:
    network = torchvision.models.VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32)
    backbone = Backbone(network, weights_of(network), [layer], pool)
    with pytest.raises(
        ConfigurationError, match=rf"extract.layer: {layer} gives no features, but a value of the type {what}:"
    ):
        check_size(backbone, 32, "preprocess.size")


class Layers(nn.Module):
    """A network whose layers are what a test makes of maps."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({"maps": nn.Conv2d(3, 6, 8, 8), **layers})
        self.head = nn.Linear(6, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.layers["maps"](images)
        for layer in list(self.layers.values())[1:]:
            layer(maps)
        return self.head(maps.mean((2, 3)))


class Reshaped(nn.Module):
    def __init__(self, how: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.how = how

    def forward(self, maps: torch.Tensor) -> object:
        return self.how(maps)


def backbone_of(layer: str, pool: Pool = "avg", **layers: Callable[[torch.Tensor], object]) -> Backbone:
    network = Layers(**{name: Reshaped(how) for name, how in layers.items()})
    return Backbone(network, weights_of(network), [f"layers.{layer}"], pool)


def test_maps_are_averaged_over_their_area_wherever_their_channels_are_and_whatever_the_network_does_otherwise() -> (
    None
):
    torch.manual_seed(0)
    backbone = backbone_of("last", last=lambda maps: maps.permute(0, 2, 3, 1))
    with torch.inference_mode():
        maps = backbone.trunk(standardised(images(size=32)))["layers.last"].permute(0, 3, 1, 2)
        assert maps.shape == (2, 6, 4, 4)
        for last in (False, True):  # as the network hands maps on elsewhere
            backbone.channels_last = last
            torch.testing.assert_close(backbone(images(size=32)), maps.mean((2, 3)))
            assert torch.equal(pooled(maps, "avg", last), maps.mean((2, 3)))
    cube = torch.rand(2, 5, 5, 5)  # nothing but the network tells
    assert torch.equal(pooled(cube, "avg", True), cube.mean((1, 2)))
    assert torch.equal(pooled(cube, "avg"), cube.mean((2, 3)))


@pytest.mark.parametrize(
    "how, told", [
        (lambda maps: maps.flatten(2).unflatten(2, (2, 8)), r"gives \[6, 2, 8\] for an image, which is no square map"),
        (lambda maps: maps[:, None], r"gives \[1, 6, 4, 4\] for an image, which is no square map"),
        (lambda maps: torch.cat([maps[..., :2, :2], maps[..., 2:, 2:]]), "gives 2 rows for each image"),
        (lambda maps: maps.mean((1, 2, 3)), "gives no features, but one number for each image"),
    ],
)  # fmt: skip
def test_what_is_no_map_of_an_image_is_refused_and_not_averaged(
    how: Callable[[torch.Tensor], object], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"extract.layer: layers.odd {told}"):
        check_size(backbone_of("odd", odd=how), 32, "preprocess.size")


class Looks(nn.Module):
    """A network that looks at values on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.body(images.mean((2, 3)))
        return self.head(features if features.sum() > 0 else -features)


@pytest.mark.parametrize("layers", [[], ["body"], ["nothing"]])
def test_a_network_that_cannot_be_cut_off_is_a_configuration_error(layers: list[str]) -> None:
    network = Looks()
    with pytest.raises(ConfigurationError, match=r"extract.backbone: Looks cannot be cut off .*control flow"):
        Backbone(network, weights_of(network), layers, "avg")


@pytest.mark.parametrize("layer", ["blocks.(", "blocks.*", "block.."])
def test_a_layer_is_a_name_and_no_pattern(layer: str) -> None:
    with pytest.raises(ConfigurationError, match="the network has no layer"):
        load_backbone("resnet_32px", read_weights("resnet_32px", "builtin", Path()), [layer])


@pytest.mark.parametrize("error", [AttributeError("'NoneType' object has no attribute 'view'"), AssertionError()])
def test_what_goes_wrong_inside_a_network_is_told_in_a_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, _ = load_backbone("resnet_32px", read_weights("resnet_32px", "builtin", Path()))
    monkeypatch.setattr(backbone.trunk, "forward", Mock(side_effect=error))
    with pytest.raises(ConfigurationError, match=r"pass(es)? through the network.*('view'|AssertionError)"):
        check_size(backbone, 32, "preprocess.size")


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


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vgg11"])
def test_a_classifier_of_ones_own_does_not_keep_a_network_from_being_read(name: str) -> None:
    """As tutorials put it in the place of the network's own."""
    network = build_network(name)
    changed, layer = ("fc", "layer4") if name == "resnet18" else ("classifier", "features")
    setattr(network, changed, nn.Sequential(nn.Dropout(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 7)))
    backbone, _ = load_backbone(name, weights_of(network), [layer])
    first = next(network.parameters())
    assert any(torch.equal(first, parameter) for parameter in backbone.parameters())
    with pytest.raises(WeightsError, match=f"(missing|another shape).*{changed}"):  # is asked for
        load_backbone(name, weights_of(network), [last_classifier(build_network(name))])


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
