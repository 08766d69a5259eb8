"""Backbones: a pretrained network cut off at the layers whose outputs become the features."""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import torch
from torch import fx, nn
from torchvision.models import SwinTransformer
from torchvision.models.feature_extraction import NodePathTracer, create_feature_extractor, get_graph_node_names
from torchvision.models.feature_extraction import _set_default_tracer_kwargs as with_defaults
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from tasks.errors import ConfigurationError, WeightsError
from tasks.extract.timm_zoo import (
    adapted,
    classifier_of,
    has_channels_last,
    is_encoder,
    is_timm,
    not_given,
    prefix_tokens,
    tracing,
)
from tasks.extract.weights import State, Weights, build_network
from tasks.wording import first_line

Pool = Literal["avg", "flatten", "token"]

OF_THE_CLASS, OF_NO_PATCH = ("cls_token", "class_token"), ("cls_token", "class_token", "dist_token", "reg_token")
"""What the parameters are called, in timm and torchvision, that a transformer puts before the tokens of the patches."""

UNTRACEABLE = (ValueError, TypeError, AttributeError, LookupError, AssertionError, RuntimeError)
"""What comes of following a network's forward pass without values, where it looks at values; `fx.proxy.TraceError` is a
ValueError."""


class Backbone(nn.Module):
    """Maps uint8 images ``[N, 3, S, S]`` to float32 features ``[N, width]``.

    Inputs are standardised on the device with the mean and standard deviation that the network was trained
    with. Of several layers, the pooled outputs stand side by side.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, weights: Weights, layers: Sequence[str], pool: Pool) -> None:
        super().__init__()
        self.layers, self.pool = tuple(layers) or (penultimate_layer(network),), pool
        self.trunk = _cut(network.eval(), self.layers)
        self.channels_last = isinstance(network, SwinTransformer) or has_channels_last(network)
        self.ahead = _tokens_ahead(self.trunk, self.layers, prefix_tokens(network))
        self.precision = torch.float32
        self.register_buffer("mean", torch.tensor(weights.mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(weights.std).view(1, 3, 1, 1) * 255)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat(self.parts(images), dim=1)

    def parts(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The features of each layer, ``[N, its width]``.

        Raises:
            ConfigurationError: what a layer gives is not the features of an image, or not those that are asked for.
        """
        pixels = ((images.float() - self.mean) / self.std).to(self.precision)
        found = self.trunk(pixels.contiguous(memory_format=torch.channels_last))
        return [self._pooled(found[layer], layer, len(images)) for layer in self.layers]

    def _pooled(self, output: Any, layer: str, images: int) -> torch.Tensor:
        features = pooled(output, self.pool, self.channels_last, self.ahead[layer], layer)
        if len(features) != images:  # such as windows of maps
            raise ConfigurationError(
                f"extract.layer: {layer} gives {len(features) / images:g} rows for each image, and not one: name "
                "another layer"
            )
        return features


@dataclass(frozen=True)
class Ahead:
    """The tokens before those of the patches, in what a layer gives.

    Attributes:
        count: how many; None where that is not known.
        of_the_class: whether the class token is among them, and so the first.
    """

    count: int | None = None
    of_the_class: bool = True


@dataclass(frozen=True)
class Outline:
    """What it takes to rebuild a backbone around a state dict.

    Attributes:
        size: side of the images that the network is built for, pixels; None, of models of earlier versions, where that
            is what its weights were trained with.
    """

    name: str
    layers: tuple[str, ...]
    pool: Pool
    num_classes: int
    size: int | None = None


def load_backbone(
    name: str, weights: Weights, layers: Sequence[str] = (), pool: Pool = "avg", size: int | None = None
) -> tuple[Backbone, Outline]:
    """Build a network, load weights into it and cut it off at ``layers``, by default where its own classifier begins.

    The number of classes it was trained for does not matter, nor whether its own classifier, or anything else above
    the layers, is among the weights.

    Args:
        size: side of the images, pixels, for networks that are built for one.

    Raises:
        WeightsError: the weights belong to another architecture.
        ConfigurationError: there is no such network, or no such layer in it.
    """
    network = load_network(name, weights, layers, size)
    backbone = Backbone(network, weights, layers, pool)
    return backbone, Outline(name, backbone.layers, pool, _source_classes(network), size)


def load_network(name: str, weights: Weights, layers: Sequence[str] = (), size: int | None = None) -> nn.Module:
    """The whole classifier with its weights, in eval mode. What the weights lack above ``layers`` is zero."""
    network = without_values(name, size=size)
    head = last_classifier(network)
    if f"{head}.weight" in weights.state:
        network = without_values(name, len(weights.state[f"{head}.weight"]), size)
    state = {
        key: tensor for key, tensor in weights.state.items() if not key.startswith(("aux1.", "aux2.", "AuxLogits."))
    }
    _load_state(network, state, name, layers, weights.source)
    return network.eval()


def without_values(name: str, num_classes: int = 1000, size: int | None = None) -> nn.Module:
    """An untrained classifier, if possible on the meta device: drawing values that are overwritten takes seconds."""
    try:
        with torch.device("meta"):
            network = build_network(name, num_classes, size)
        if not any(module._non_persistent_buffers_set for module in network.modules()):
            return network  # others have values that no weights bring, such as indices and rotations
    except (NotImplementedError, RuntimeError):  # some compute their widths with tensors
        pass
    return build_network(name, num_classes, size)


def last_classifier(network: nn.Module) -> str:
    """Name of the network's own classifier: the last linear layer or, where there is none, the last convolution."""
    modules = list(network.named_modules())
    if (known := classifier_of(network)) is not None:
        return next(name for name, module in modules if module is known)
    for kind in (nn.Linear, nn.Conv2d):
        if names := [name for name, module in modules if isinstance(module, kind)]:
            return names[-1]
    raise ConfigurationError("the network has neither a linear nor a convolutional layer")


def penultimate_layer(network: nn.Module) -> str:
    """The node whose output the network's own classifier sees or, of an encoder, which has none, the last one.

    Raises:
        ConfigurationError: the network cannot be traced, or its classifier has no part in what it gives.
    """
    tracer = NodePathTracer(**with_defaults(tracing(network)))
    try:
        graph = tracer.trace(network.eval(), not_given(network))
    except UNTRACEABLE as error:
        raise _untraceable(network, error) from error
    names = tracer.node_to_qualname
    if is_encoder(network):
        [output] = [node for node in graph.nodes if node.op == "output"]
        return names[output.all_input_nodes[0]]
    head = last_classifier(network)
    for node, name in names.items():
        if node.op != "get_attr" and (name == head or name.startswith(f"{head}.")):
            return next(names[seen] for seen in node.all_input_nodes if seen.op != "get_attr")
    raise ConfigurationError("the network's own classifier is not part of its forward pass: name a layer")


def pooled(
    features: Any, pool: Pool, channels_last: bool = False, ahead: Ahead = Ahead(), layer: str = "the layer"
) -> torch.Tensor:
    """Any layer's output as float32 ``[N, width]``.

    Args:
        features: ``[N, C]``, tokens ``[N, T, C]``, or square maps ``[N, C, H, W]`` or ``[N, H, W, C]``, which their
            shape tells apart: within a network, one layer may give these and another those.
        pool: ``avg`` averages maps over their area and tokens over their number; ``flatten`` takes all; ``token``
            takes the class token of transformers that have one.
        channels_last: maps of as many channels as positions of a side are ``[N, H, W, C]``, as in Swin transformers.
        ahead: the tokens that are none of a patch: they are not averaged over.
        layer: what it is called in a message.

    Raises:
        ConfigurationError: the output is none of these, or the class token is asked for, and there is none.
    """
    if not isinstance(features, torch.Tensor) or features.ndim < 2:
        raise ConfigurationError(
            f"extract.layer: {layer} gives no features, but {_kind(features)}: name another layer, such as the module "
            "around it"
        )
    shape = list(features.shape[1:])
    if pool == "token":
        if features.ndim != 3 or ahead.count == 0 or not ahead.of_the_class:
            lacking = "tokens" if features.ndim != 3 else "class token"
            raise ConfigurationError(
                f"extract.pool is token, but what {layer} gives, {shape}, has no {lacking}: name a layer of a vision "
                "transformer such as encoder.ln, behind where its class token is added, or take avg"
            )
        return features[:, 0].float()
    if features.ndim == 2 or pool == "flatten":
        return features.flatten(1).float()
    if features.ndim == 3:
        patches = features[:, ahead.count :] if ahead.count and features.shape[1] > ahead.count else features
        return patches.mean(1, dtype=torch.float32)
    return features.mean(_area(shape, channels_last, layer), dtype=torch.float32)


def _area(shape: Sequence[int], channels_last: bool, layer: str) -> tuple[int, int]:
    """The two dimensions of maps, of the shape of one image's, that are their area: images are square, so maps are."""
    if len(shape) == 3:
        first, second, third = shape
        if second == third and not (channels_last and first == second):
            return 2, 3
        if first == second:
            return 1, 2
    raise ConfigurationError(
        f"extract.layer: {layer} gives {list(shape)} for an image, which is no square map with its channels first or "
        "last: name another layer, or take extract.pool: flatten"
    )


def _kind(output: Any) -> str:
    if isinstance(output, torch.Tensor):
        return "one number for each image" if output.ndim else "one number"
    return f"a value of the type {type(output).__name__}"


def _tokens_ahead(trunk: nn.Module, layers: Sequence[str], known: int | None) -> dict[str, Ahead]:
    """The tokens before those of the patches, of each layer: those that have come in below it.

    Args:
        known: how many the network has in all, where that is known.
    """
    outputs, found = _outputs(trunk), {}
    for layer in layers:
        names = _parameters_below(outputs[layer], trunk)
        some = any(name.startswith(OF_NO_PATCH) for name in names)
        found[layer] = Ahead(
            known if some or known is None else 0, any(name.startswith(OF_THE_CLASS) for name in names)
        )
    return found


def _parameters_below(node: fx.Node, trunk: nn.Module) -> set[str]:
    """Last names of the parameters that a node's output depends on."""
    seen, waiting, names = {node}, [node], set[str]()
    while waiting:
        each = waiting.pop()
        if each.op == "get_attr":
            names.add(str(each.target).rpartition(".")[2])
        elif each.op == "call_module":
            module = trunk.get_submodule(str(each.target))
            names |= {name.rpartition(".")[2] for name, _ in module.named_parameters()}
        fresh = [below for below in each.all_input_nodes if below not in seen]
        seen.update(fresh)
        waiting += fresh
    return names


def _source_classes(network: nn.Module) -> int:
    head = network.get_submodule(last_classifier(network))
    return len(head.weight)  # type: ignore[arg-type]


def _nodes(network: nn.Module) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fx warns where training and evaluation graphs differ; only the latter is used
        return get_graph_node_names(network.eval(), tracing(network), concrete_args=not_given(network))[1]


def _cut(network: nn.Module, layers: Sequence[str]) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = {layer: layer for layer in layers}
            trunk = create_feature_extractor(
                network, wanted, tracer_kwargs=tracing(network), concrete_args=not_given(network)
            )
    except (*UNTRACEABLE, re.error) as error:  # or a name is not there, which is a plain ValueError
        raise _fault_of(network, layers, error) from error
    if any(layer not in _outputs(trunk) for layer in layers):  # torchvision takes names for patterns
        raise _fault_of(network, layers, ValueError("two of the layers are one"))
    return trunk


def _outputs(trunk: nn.Module) -> dict[str, fx.Node]:
    """Each layer's node in a network that is cut off at them."""
    assert isinstance(trunk, fx.GraphModule)
    [output] = [node for node in trunk.graph.nodes if node.op == "output"]
    return output.args[0]  # type: ignore[return-value]


def _fault_of(network: nn.Module, layers: Sequence[str], error: Exception) -> ConfigurationError:
    """Why a network cannot be cut off; tracing it once more costs only those who mistyped."""
    try:
        nodes = _nodes(network)
    except UNTRACEABLE as fault:
        return _untraceable(network, fault)
    # A module is named by what it contains, too: "features" stands for its last node.
    unknown = [layer for layer in layers if not any(f"{node}.".startswith(f"{layer}.") for node in nodes)]
    if not unknown:
        return ConfigurationError(f"extract.layer: the network cannot be cut off at {', '.join(layers)}: {error}")
    near = get_close_matches(unknown[0], nodes, n=3, cutoff=0.3)
    return ConfigurationError(
        f"extract.layer: the network has no layer {unknown[0]!r}; near it: {', '.join(near) or 'none'}; "
        f"the last ones are {', '.join(nodes[-6:])}"
    )


def _untraceable(network: nn.Module, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"extract.backbone: {type(network).__name__} cannot be cut off at a layer, as its forward pass cannot be "
        f"followed ({first_line(error)}): take another network"
    )


def _load_state(network: nn.Module, state: State, name: str, layers: Sequence[str], source: str) -> None:
    wanted = network.state_dict()
    if _faults(wanted, state):
        state = _changed(name, state, network)
    faults = _faults(wanted, state)
    classifier = last_classifier(network).split(".")[0]
    others = [*faults.get("of another shape", ()), *faults.get("unknown", ())]
    if faults and all(key.split(".")[0] == classifier for key in others):
        # What lies above the layers is not looked at: a classifier of one's own may have other parts there.
        used = _cut(network.eval(), layers or [penultimate_layer(network)]).state_dict()
        faults = _faults(used, {key: tensor for key, tensor in state.items() if key in used})
    if faults:
        told = "; ".join(f"{len(keys)} {what} (first: {keys[0]})" for what, keys in faults.items())
        raise WeightsError(
            f"extract.weights: {source} does not belong to {name}; of its {len(wanted)} tensors: {told}. "
            "Name the architecture that it was trained with in extract.backbone"
        )
    for key, tensor in wanted.items():
        # Weights stay whose they are: a network that is trained must not change them.
        fits = key in state and state[key].shape == tensor.shape
        wanted[key] = state[key].clone() if fits else torch.zeros_like(tensor, device="cpu")
    network.load_state_dict(wanted, assign=True)


def _faults(wanted: State, state: State) -> dict[str, list[str]]:
    """In what weights are others than a network's, with the names of those that are."""
    found = {
        "missing": [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")],
        "of another shape": [key for key in wanted if key in state and state[key].shape != wanted[key].shape],
        "unknown": [key for key in state if key not in wanted],
    }
    return {what: keys for what, keys in found.items() if keys}


def _changed(name: str, state: State, network: nn.Module) -> State:
    """Weights that do not fit as they are, for a network that is built for another size of images or, of timm's, under
    the names of their publication."""
    if is_timm(name):
        return adapted(name, state, network)
    positions = state.get("encoder.pos_embedding")
    if isinstance(network, VisionTransformer) and positions is not None and positions.shape[-1] == network.hidden_dim:
        return dict(interpolate_embeddings(network.image_size, network.patch_size, OrderedDict(state)))
    return state
