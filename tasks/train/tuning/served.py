"""What is being tuned, as it will be extracted with and served: what choices are made by is what comes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tasks.extract.backbones import Backbone
from tasks.extract.inference import prepared
from tasks.extract.weights import State


@dataclass
class Served:
    """Makes of a state of the weights the backbone that features are extracted with: batch norms folded, in the
    precision of the features, nothing that a method has added or changed.

    Attributes:
        network, backbone: a copy of their own, as `tasks.train.task.Task.network` gives it.
        precision: of the features.
    """

    network: nn.Module
    backbone: Backbone
    precision: torch.dtype

    def backbone_of(self, state: State, device: torch.device) -> Backbone:
        """The backbone with these weights, under the names that the pretrained ones have."""
        self.network.load_state_dict(state)
        return prepared(self.backbone, device, self.precision)

    def __deepcopy__(self, memo: Any) -> Served:
        # A running average is a copy of what learns: it needs no network but its own.
        return self
