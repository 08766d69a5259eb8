"""The network that is tuned: backbone and head as one, and what a method may ask of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from tasks.extract.backbones import Backbone
from tasks.preprocess.pictures import Pictures, Views
from tasks.target import Kind
from tasks.train.heads import Head
from tasks.train.targets import loss_of
from tasks.train.tuning.blocks import Block

LOOKED_AT = 256
"""Images that the head's statistics are measured on where those of the frozen features tell nothing."""

SCALE = 2.0**12
"""What a loss is multiplied by before its gradients are measured: in fp16, small ones would be zero."""

Criterion = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]
"""The mean loss of logits ``[N, C]`` for targets, and of the features ``[N, width]`` that they are of, when so large a
share of the training is over. Of images without targets, which come last, there are logits and features as well."""


class Material(NamedTuple):
    """What is learned from: images by number, what the criterion is told of each ``[N, ...]``, and the criterion.

    Images beyond those ``N`` are of another domain, of which a batch has as many (see `Batches`). A criterion that is a
    module learns its parameters beside the head's.
    """

    pictures: Pictures | Views
    targets: torch.Tensor
    criterion: Criterion


class Loss(nn.Module):
    """`tasks.train.targets.loss_of`, whose class weights follow the network to its device, whatever the features."""

    weights: torch.Tensor | None

    def __init__(self, kind: Kind, smoothing: float = 0.0, weights: torch.Tensor | None = None) -> None:
        super().__init__()
        self.kind, self.smoothing = kind, smoothing
        self.register_buffer("weights", weights, persistent=False)

    def forward(
        self, logits: torch.Tensor, targets: torch.Tensor, features: torch.Tensor | None = None, over: float = 0.0
    ) -> torch.Tensor:
        return loss_of(self.kind, self.smoothing, self.weights)(logits, targets)


class Tuning(nn.Module):
    """Maps uint8 images ``[N, 3, S, S]`` to logits float32 ``[N, classes]``.

    Attributes:
        blocks: the backbone's, from its input to its features.
        criterion: what a batch costs.
        batches: what is learned from, of the epoch at hand.
        over: share of the training that is over.
        frozen_statistics: whether batch norms keep the pretrained statistics.
    """

    def __init__(
        self, network: nn.Module, backbone: Backbone, head: Head, blocks: Sequence[Block], criterion: Criterion,
        batches: Iterable[tuple[torch.Tensor, torch.Tensor]], frozen_statistics: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.backbone, self.head = backbone, head
        self.blocks, self.criterion, self.batches = list(blocks), criterion, batches
        self.frozen_statistics, self.over = frozen_statistics, 0.0
        # Not a submodule: its parameters are the backbone's.
        self._whole = [network]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.answers(self.backbone(images))

    def loss(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """What a batch costs."""
        features = self._seen(images, len(targets))
        return self.criterion(self.answers(features), targets, features, self.over)

    def _seen(self, images: torch.Tensor, count: int) -> torch.Tensor:
        """Features of a batch, of which so many have targets.

        The others are of the domain that the model is for. Each domain is normalised by its own statistics where norms
        follow the images, and they keep the other one's (Li et al. 2017; Chang et al. 2019, "Domain-specific batch
        normalization").
        """
        norms = [norm for block in self.blocks for norm in block.batch_norms if norm.training]
        if not norms or count == len(images):
            return self.backbone(images)
        with _passed_over(norms):
            ours = self.backbone(images[:count])
        return torch.cat([ours, self.backbone(images[count:])])

    def answers(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of features ``[N, width]``."""
        # As it will be served: the head costs nothing, and logits of eight bits are often equal.
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features)

    @property
    def device(self) -> torch.device:
        return self.head.mean.device

    def set_rates(self, rates: Sequence[float]) -> None:
        """Freeze the blocks whose rate is 0, free the others; batch norms follow the images where they may."""
        # A trunk changes its graph only when its mode changes, which Lightning, after validation, passes over.
        self.eval().train()
        for module in self.backbone.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        for block, rate in zip(self.blocks, rates, strict=True):
            for parameter in block.parameters:
                parameter.requires_grad_(rate > 0)
            for norm in block.batch_norms:
                norm.train(rate > 0 and not self.frozen_statistics)

    def standardise_as_learned(self, rates: Sequence[float]) -> None:
        """Give the head the statistics of features under batch norms that follow the images, where their blocks learn.

        Under pretrained statistics features are others, and under those of random weights, which are none, they may be
        smaller by orders of magnitude.
        """
        self.set_rates(rates)
        norms = [norm for block in self.blocks for norm in block.batch_norms if norm.training]
        if not norms:
            return
        kept = [copy.deepcopy(norm.state_dict()) for norm in norms]
        features: list[torch.Tensor] = []
        with torch.no_grad():
            for images, targets in self.batches:
                features.append(self._seen(images.to(self.device), len(targets)).float())
                if sum(map(len, features)) >= LOOKED_AT:
                    break
        self.head.standardise_like(torch.cat(features))
        for norm, state in zip(norms, kept, strict=True):
            norm.load_state_dict(state)

    def relative_gradients(self, count: int) -> list[float]:
        """‖g‖ / ‖w‖ of each block, g the gradient of the mean loss over the first ``count`` batches of the epoch.

        Nothing of the network changes, statistics of batch norms included.
        """
        parameters = [parameter for block in self.blocks for parameter in block.parameters]
        with self._measuring(parameters):
            seen = 0
            for images, targets in islice(self.batches, count):
                (SCALE * self.loss(images.to(self.device), targets.to(self.device))).backward()
                seen += 1
            norms = []
            for block in self.blocks:
                gradients = [p.grad for p in block.parameters if p.grad is not None]
                size = torch.nn.utils.get_total_norm(block.parameters).item()
                norms.append(torch.nn.utils.get_total_norm(gradients).item() / SCALE / seen / max(size, 1e-12))
        return norms

    @contextmanager
    def _measuring(self, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
        learned = [(p, p.requires_grad) for p in self.parameters()]
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        try:
            with torch.enable_grad():
                yield
        finally:
            self.zero_grad(set_to_none=True)
            for parameter, wanted in learned:
                parameter.requires_grad_(wanted)
            for module, mode in modes:  # the outer ones first
                module.train(mode)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Nothing of the network follows what it sees: neither parameters nor statistics; and nothing is dropped."""
        learned = [parameter for parameter in self.parameters() if parameter.requires_grad]
        # Not by `train`, at which a trunk changes its graph, and compiles it.
        moving = [module for module in self.modules() if module.training]
        try:
            for parameter in learned:
                parameter.requires_grad_(False)
            for module in moving:
                module.training = False
            yield
        finally:
            for parameter in learned:
                parameter.requires_grad_(True)
            for module in moving:
                module.training = True

    def states(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Parameters of the whole network, under torchvision's names, and of the head; copies on the CPU."""
        return _copied(_merged(self._whole[0])), _copied(self.head.state_dict())


@contextmanager
def _passed_over(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Norms in training that normalise each batch by itself, and keep nothing of it."""
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def _merged(network: nn.Module) -> dict[str, torch.Tensor]:
    """The state of a network, in which what a method added to parameters is part of them.

    A copy whose parametrizations are removed would be easier, but removing them breaks the network, too, as it has the
    same classes.
    """
    state = {key: tensor for key, tensor in network.state_dict().items() if "parametrizations." not in key}
    for name, module in network.named_modules():
        if parametrize.is_parametrized(module):
            for own in module.parametrizations:  # type: ignore[union-attr]
                state[f"{name}.{own}" if name else str(own)] = getattr(module, str(own))
    return state


def _copied(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for key, tensor in state.items()}
