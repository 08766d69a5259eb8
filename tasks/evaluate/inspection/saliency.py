"""Which parts of an image speak for a class: the network's own activations, weighted by what they do to the answer.

HiResCAM (Draelos & Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
networks"): activation times gradient, summed over the channels. Of a network that ends in average pooling and a linear
layer, as most do, it is exactly what each position adds to the answer; Grad-CAM, which averages gradients first, may
show places that played no part. The same sum over the tokens of a transformer is its gradient-based token map.

The layer is the last one with enough positions of which most have a say. So it is the last map of a convolutional
network and, of a transformer that answers by its class token, what enters the last attention: behind it, other tokens
are not looked at any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import isqrt
from typing import Any

import torch
from torch import fx, nn
from torch.nn.functional import interpolate, normalize

from tasks.errors import ConfigurationError
from tasks.extract.backbones import Backbone
from tasks.train.heads import Head, Neighbours

LEAST_SIDE = 3
"""Positions of a side, below which a map says nothing of where."""

AT_ONCE = {"cpu": 8 * 224 * 224, "cuda": 64 * 224 * 224}
"""Input pixels of a batch, whose activations are all kept."""


class Saliency:
    """Maps of a classifier's answers.

    Args:
        backbone: made ready for inference; its weights stay as they are.
        head: of any kind.
        begin: where the backbone's features begin among those that the head takes.
    """

    def __init__(self, backbone: Backbone, head: Head, begin: int = 0) -> None:
        self.backbone, self.head, self.begin = backbone, head, begin
        self._place: int | None = None

    def maps(self, pixels: torch.Tensor, classes: torch.Tensor, whole: torch.Tensor | None = None) -> torch.Tensor:
        """What speaks for a class at each position, and, where negative, against it: float32 ``[N, h, w]``.

        Args:
            pixels: uint8 ``[N, 3, S, S]``.
            classes: of each image, the number of the class that is asked about, int64 ``[N]``.
            whole: features ``[N, width]`` of all backbones, of which only this one's say where; by default there is
                this one.

        Raises:
            ConfigurationError: no layer of the network has positions that the answer depends on.
        """
        batch = max(1, AT_ONCE.get(pixels.device.type, AT_ONCE["cpu"]) // pixels.shape[-1] ** 2)
        whole = torch.empty(len(pixels), 0) if whole is None else whole
        parts = zip(pixels.split(batch), classes.split(batch), whole.split(batch), strict=True)
        return torch.cat([self._maps(*part) for part in parts])

    def _maps(self, pixels: torch.Tensor, classes: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        device = self.backbone.mean.device
        images = pixels.to(device).float().requires_grad_()
        with torch.enable_grad(), _recorded(self.backbone.trunk, len(images)) as found:
            own = self.backbone(images).cpu()
            features = torch.cat([whole[:, : self.begin], own, whole[:, self.begin + own.shape[1] :]], dim=1)
            score = evidence(self.head, features, classes).sum()
            if self._place is None:
                gradients = torch.autograd.grad(score, found, allow_unused=True, retain_graph=True)
                self._place = _last_with_a_say(found, gradients)
            activation = found[self._place]
            [gradient] = torch.autograd.grad(score, activation)
        return _positions(activation.detach().float() * gradient.float()).cpu()


def evidence(head: Head, features: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """What is explained, ``[N]``: the logarithm of a class's odds, which, unlike a logit, does not change when all
    logits grow by as much.

    The votes of the nearest neighbours are steps, whose slope is 0. In their place stand those of all examples, of
    which the near ones count for most (soft nearest neighbours, Frosst et al. 2019).
    """
    if isinstance(head.layers, Neighbours):
        return _soft_votes(head.layers, head.standardised(features), classes)
    logits = head(features)
    chosen = logits.gather(1, classes[:, None])[:, 0]
    if head.multi_label:
        return chosen
    others = logits.scatter(1, classes[:, None], float("-inf"))
    return chosen - others.logsumexp(1)


def _soft_votes(neighbours: Neighbours, features: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    votes = normalize(features, dim=1) @ neighbours.examples.T / neighbours.SHARPNESS
    has = neighbours.targets.T[classes].clamp(1e-6, 1 - 1e-6)
    return (votes + has.log()).logsumexp(1) - (votes + (1 - has).log()).logsumexp(1)


def enlarged(maps: torch.Tensor, size: int) -> torch.Tensor:
    """Maps ``[N, h, w]`` as large as the images: ``[N, size, size]``."""
    return interpolate(maps[:, None], size=[size, size], mode="bilinear", align_corners=False)[:, 0]


@contextmanager
def _recorded(trunk: nn.Module, images: int) -> Iterator[list[torch.Tensor]]:
    """Notes, in a forward pass inside the block, what could be mapped: all that has positions, up to the first of the
    layers that features are taken from, so that everything that they say has passed through it."""
    assert isinstance(trunk, fx.GraphModule)
    recorder = _Recorder(trunk, images)
    trunk.forward = recorder.run  # type: ignore[method-assign]
    try:
        yield recorder.found
    finally:
        del trunk.forward


class _Recorder(fx.Interpreter):
    def __init__(self, trunk: fx.GraphModule, images: int) -> None:
        super().__init__(trunk)
        self.images, self.found, self._open = images, list[torch.Tensor](), True
        [output] = [node for node in trunk.graph.nodes if node.op == "output"]
        self._ends = set(output.all_input_nodes)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if self._open and n.op != "placeholder" and isinstance(value, torch.Tensor) and value.requires_grad:
            self.found += [value] * (value.ndim in (3, 4) and len(value) == self.images)
        self._open = self._open and n not in self._ends
        return value


def _last_with_a_say(found: list[torch.Tensor], gradients: tuple[torch.Tensor | None, ...]) -> int:
    for place in reversed(range(len(found))):
        gradient = gradients[place]
        if gradient is not None and _side(gradient) >= LEAST_SIDE:
            says = _positions(gradient.float().abs()) > 0
            if says.float().mean() > 0.5:
                return place
    raise ConfigurationError(
        "evaluate.explain: no layer of the network has places that its answers depend on: set evaluate.explain: 0"
    )


def _side(values: torch.Tensor) -> int:
    """Positions of a side of a square map, channels first or last, or of tokens; 0 where there are none."""
    if values.ndim == 3:
        return isqrt(values.shape[1])
    return next((values.shape[at] for at in (2, 1) if values.shape[at] == values.shape[at + 1]), 0)


def _positions(values: torch.Tensor) -> torch.Tensor:
    """Sums over the channels, ``[N, h, w]``, of square maps, channels first or last, or of tokens, whose first ones, if
    there are more than make a square, stand for no place."""
    if values.ndim == 3:
        side = isqrt(values.shape[1])
        return values[:, -side * side :].sum(2).reshape(-1, side, side)
    return values.sum(1 if values.shape[2] == values.shape[3] else 3)
