"""Partial fine-tuning: the last blocks, or those that are named."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.errors import ConfigurationError
from tasks.train.tuning.method import ThroughBackbone

if TYPE_CHECKING:
    from torch import nn

    from tasks.train.tuning.blocks import Block
    from tasks.train.tuning.network import Tuning


class Partial(ThroughBackbone):
    """Only some layers are trained, the others stay as they were pretrained."""

    method: Literal["partial"] = "partial"
    blocks: int = Field(default=4, ge=1)
    """Blocks that learn, counted from the features down."""
    layers: list[str] = Field(default=[])
    """Names of modules that learn instead, such as `features.17` or `layer4`."""

    def prepare(self, network: nn.Module, blocks: list[Block]) -> None:
        self._named([block.name for block in blocks])  # what is wrong is told before anything takes time

    def rates(self, epoch: int, tuning: Tuning) -> list[float]:
        depth = self.by_depth(len(tuning.blocks))
        learns = self._named([block.name for block in tuning.blocks]) or [
            place >= len(depth) - self.blocks for place in range(len(depth))
        ]
        return [rate if taken else 0.0 for rate, taken in zip(depth, learns, strict=True)]

    def _named(self, names: list[str]) -> list[bool]:
        if not self.layers:
            return []
        for layer in self.layers:
            if not any(name == layer or name.startswith(f"{layer}.") for name in names):
                near = get_close_matches(layer, names, n=3, cutoff=0.3) or names[-3:]
                raise ConfigurationError(
                    f"train.layers: no block of the network is named {layer!r}; near it: {', '.join(near)}"
                )
        return [any(name == layer or name.startswith(f"{layer}.") for layer in self.layers) for name in names]

    @classmethod
    def space(cls, draw: Any) -> dict[str, Any]:
        return super().space(draw) | {"blocks": draw.suggest_int("blocks", 1, 12)}
