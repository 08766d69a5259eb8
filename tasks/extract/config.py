"""The ``extract`` section of a configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.section import Section


class ExtractConfig(Section):
    """Which pretrained network looks at the images, and what of it is kept."""

    backbone: str = "resnet_32px"
    """`resnet_32px`, the built-in network, or any torchvision classifier, for example `mobilenet_v2`."""
    weights: str = "builtin"
    """`builtin`; `imagenet`, torchvision's own, downloaded once; a .safetensors or .pth file; or `random`,
    which is for benchmarks only."""
    layer: str | None = None
    """Node whose output is taken; by default what the network's own classifier sees."""
    pool: Literal["avg", "flatten"] = "avg"
    """Whether a map of features is averaged over its area or taken as it is."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """`auto` takes bf16 where the device computes it natively."""
    device: str = "auto"
    """`auto` takes cuda, mps or cpu, the first that is there."""
    batch_size: int = Field(default=128, ge=1)
    """Images in one forward pass."""
