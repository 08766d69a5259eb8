"""Heads: what is put on top of a frozen backbone, and how it is kept in a file."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn


class Head(nn.Module):
    """Maps features float32 ``[N, width]`` to class logits ``[N, classes]``.

    Features are standardised with the statistics of the training images first, so that one step size and one
    range of regularisation fit every backbone.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, width: int, classes: int, hidden: int | None = None) -> None:
        super().__init__()
        self.width, self.classes, self.hidden = width, classes, hidden
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.layers: nn.Module = (
            nn.Linear(width, classes)
            if hidden is None
            else nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, classes))
        )

    def standardise_like(self, features: torch.Tensor) -> Head:
        """Take the statistics from training features ``[N, width]``; a constant feature is left as it is."""
        self.mean.copy_(features.mean(0))
        std = features.std(0, correction=0)
        self.std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))
        return self

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layers((features - self.mean) / self.std)

    def save(self, path: Path) -> None:
        """Write weights and what it takes to rebuild the head to a safetensors file."""
        shape = json.dumps({"width": self.width, "classes": self.classes, "hidden": self.hidden})
        save_file({key: value.contiguous() for key, value in self.state_dict().items()}, path, {"head": shape})

    @classmethod
    def load(cls, path: Path) -> Head:
        """Read a head back, in eval mode."""
        with safe_open(path, "pt") as file:
            head = cls(**json.loads(file.metadata()["head"]))
            head.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
        return head.eval()


@torch.inference_mode()
def predict_probabilities(head: Head, features: torch.Tensor) -> torch.Tensor:
    """Softmax probabilities float32 ``[N, classes]`` for features ``[N, width]``."""
    return head(features).softmax(1)
