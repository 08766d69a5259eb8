"""Backbones: a pretrained network cut off at the layers whose outputs become the features."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

import torch
from torch import nn
from torchvision.models import SwinTransformer
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from tasks.errors import ConfigurationError, WeightsError
from tasks.extract.weights import State, Weights, build_network

Pool = Literal["avg", "flatten", "token"]


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
        self.channels_last = isinstance(network, SwinTransformer)
        self.precision = torch.float32
        self.register_buffer("mean", torch.tensor(weights.mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(weights.std).view(1, 3, 1, 1) * 255)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = ((images.float() - self.mean) / self.std).to(self.precision)
        found = self.trunk(pixels.contiguous(memory_format=torch.channels_last))
        return torch.cat([pooled(found[layer], self.pool, self.channels_last) for layer in self.layers], dim=1)


@dataclass(frozen=True)
class Outline:
    """What it takes to rebuild a backbone around a state dict."""

    name: str
    layers: tuple[str, ...]
    pool: Pool
    num_classes: int


def load_backbone(
    name: str, weights: Weights, layers: Sequence[str] = (), pool: Pool = "avg"
) -> tuple[Backbone, Outline]:
    """Build a network, load weights into it and cut it off at ``layers``, by default where its own classifier begins.

    The number of classes it was trained for does not matter, nor whether its own classifier is among the
    weights.

    Raises:
        WeightsError: the weights belong to another architecture.
        ConfigurationError: there is no such network, or no such layer in it.
    """
    network = load_network(name, weights)
    backbone = Backbone(network, weights, layers, pool)
    return backbone, Outline(name, backbone.layers, pool, _source_classes(network))


def load_network(name: str, weights: Weights) -> nn.Module:
    """The whole classifier with its weights, in eval mode. What the weights lack of its own classifier is zero."""
    network = _without_values(name)
    head = last_classifier(network)
    if f"{head}.weight" in weights.state:
        network = _without_values(name, len(weights.state[f"{head}.weight"]))
    state = {
        key: tensor for key, tensor in weights.state.items() if not key.startswith(("aux1.", "aux2.", "AuxLogits."))
    }
    _load_state(network, state, name, head, weights.source)
    return network.eval()


def _without_values(name: str, num_classes: int = 1000) -> nn.Module:
    """An untrained classifier, if possible on the meta device: drawing values that are overwritten takes seconds."""
    try:
        with torch.device("meta"):
            return build_network(name, num_classes)
    except NotImplementedError:  # RegNets compute their widths with tensors
        return build_network(name, num_classes)


def last_classifier(network: nn.Module) -> str:
    """Name of the last linear layer or, in a network without one, the last convolution."""
    modules = list(network.named_modules())
    for kind in (nn.Linear, nn.Conv2d):
        if names := [name for name, module in modules if isinstance(module, kind)]:
            return names[-1]
    raise ConfigurationError("the network has neither a linear nor a convolutional layer")


def penultimate_layer(network: nn.Module) -> str:
    """The node just before the network's own classifier."""
    nodes = _nodes(network)
    head = last_classifier(network)
    return nodes[next(index for index, node in enumerate(nodes) if node == head) - 1]


def pooled(features: torch.Tensor, pool: Pool, channels_last: bool = False) -> torch.Tensor:
    """Any layer's output as float32 ``[N, width]``.

    Args:
        features: ``[N, C]``, maps ``[N, C, H, W]`` or tokens ``[N, T, C]``.
        pool: ``avg`` averages maps over their area and tokens over their number; ``flatten`` takes all; ``token``
            takes the first token, which is the class token of transformers that have one.
        channels_last: maps are ``[N, H, W, C]``, as in Swin transformers.

    Raises:
        ConfigurationError: the first token is asked for, and there are no tokens.
    """
    if pool == "token":
        if features.ndim != 3:
            raise ConfigurationError(
                f"extract.pool is token, but the layer's output {list(features.shape[1:])} has no tokens: name a layer "
                "of a vision transformer such as encoder.ln, or take avg"
            )
        return features[:, 0].float()
    if features.ndim == 2 or pool == "flatten":
        return features.flatten(1).float()
    area: tuple[int, ...] = (1,) if features.ndim == 3 else (1, 2) if channels_last else (2, 3)
    return features.mean(area, dtype=torch.float32)


def _source_classes(network: nn.Module) -> int:
    head = network.get_submodule(last_classifier(network))
    return len(head.weight)  # type: ignore[arg-type]


def _nodes(network: nn.Module) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fx warns where training and evaluation graphs differ; only the latter is used
        return get_graph_node_names(network.eval())[1]


def _cut(network: nn.Module, layers: Sequence[str]) -> nn.Module:
    nodes = _nodes(network)
    for layer in layers:
        # A module is named by what it contains, too: "features" stands for its last node.
        if any(node == layer or node.startswith(f"{layer}.") for node in nodes):
            continue
        near = get_close_matches(layer, nodes, n=3, cutoff=0.3)
        raise ConfigurationError(
            f"extract.layer: the network has no layer {layer!r}; near it: {', '.join(near) or 'none'}; "
            f"the last ones are {', '.join(nodes[-6:])}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return create_feature_extractor(network, {layer: layer for layer in layers})


def _load_state(network: nn.Module, state: State, name: str, head: str, source: str) -> None:
    wanted = network.state_dict()
    wrong = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    missing = [
        key
        for key in wanted
        if key not in state and not key.startswith(f"{head}.") and not key.endswith("num_batches_tracked")
    ]
    unexpected = [key for key in state if key not in wanted]
    if wrong or missing or unexpected:
        told = [
            f"{len(keys)} {what} (first: {keys[0]})"
            for what, keys in (("missing", missing), ("of another shape", wrong), ("unknown", unexpected))
            if keys
        ]
        raise WeightsError(
            f"extract.weights: {source} does not belong to {name}; of its {len(wanted)} tensors: {'; '.join(told)}. "
            "Name the architecture that it was trained with in extract.backbone"
        )
    for key, tensor in wanted.items():
        # Weights stay whose they are: a network that is trained must not change them.
        wanted[key] = state[key].clone() if key in state else torch.zeros_like(tensor, device="cpu")
    network.load_state_dict(wanted, assign=True)
