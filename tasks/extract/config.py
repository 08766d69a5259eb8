"""The ``extract`` section of a configuration."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.extract.facts import own_looks
from tasks.preprocess.kinds import Interpolation
from tasks.section import Section

PUBLISHED = ("builtin", "pretrained", "imagenet")
"""What ``extract.weights`` says of weights that everybody has under the network's name."""


class WorkersConfig(Section):
    """Who computes the features that are missing. All workers see the workspace under the same path."""

    runner: Literal["none", "threads", "dask", "ray"] = "none"
    """`none`: this process, or one process for each GPU of this machine. Else the missing images are cut into shards
    that are mapped as Prefect tasks: on `threads`, on a Dask or on a Ray cluster."""
    address: str | None = None
    """Of the cluster's scheduler, for example `tcp://10.0.0.1:8786`; without one, a cluster on this machine is begun
    for the run."""
    count: int | None = Field(default=None, ge=1)
    """Threads, or workers of the cluster that is begun; by default, what the runner takes."""
    shard: int = Field(default=4096, ge=1)
    """Images of a shard: what a lost worker loses at most."""


class BesideConfig(Section):
    """A further pretrained network, whose features of an image stand beside those of the first."""

    backbone: str
    """As in the section itself."""
    weights: str = "pretrained"
    """As in the section itself."""
    layer: str | list[str] | None = None
    """As in the section itself."""
    pool: Literal["avg", "flatten", "token"] = "avg"
    """As in the section itself."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] | None = None
    """As in the section itself, which says it by default."""
    size: int = Field(default=224, ge=8, le=2048)
    """Side of the square that this network sees, in pixels; by default what it was trained with."""
    fit: Literal["crop", "squash", "pad"] = "crop"
    """As in the section `preprocess`; by default, for a network of timm, as it was trained."""
    crop: float = Field(default=1.0, gt=0.1, le=1.2)
    """As in the section `preprocess`; by default, for a network of timm, what it was evaluated with."""
    interpolation: Interpolation = "bilinear"
    """As in the section `preprocess`; by default, for a network of timm, as it was trained."""

    @model_validator(mode="before")
    @classmethod
    def _look_as_the_backbone_does(cls, values: Any) -> Any:
        return own_looks(str(values.get("backbone"))) | values if isinstance(values, dict) else values

    @property
    def geometry(self) -> dict[str, Any]:
        """What of a `tasks.preprocess.recipe.Recipe` is this network's own."""
        return self.model_dump(include={"size", "fit", "crop", "interpolation"})


class ExtractConfig(Section):
    """Which pretrained network looks at the images, and what of it is kept."""

    backbone: str = "resnet_32px"
    """`resnet_32px`, the built-in network, any torchvision classifier, for example `mobilenet_v2`, or any of timm, for
    example `timm/vit_small_patch14_dinov2.lvd142m`; `headstart backbones` lists them."""
    weights: str = "builtin"
    """`builtin`; `pretrained` (or `imagenet`), what torchvision or timm has for the network, downloaded once; a
    .safetensors or .pth file under the names of either; or `random`, which is for benchmarks only."""
    layer: str | list[str] | None = None
    """Node whose output is taken, or several in one pass, which then stand side by side; by default what the
    network's own classifier sees. What lies above need not be in the weights."""
    pool: Literal["avg", "flatten", "token"] = "avg"
    """Whether a map of features is averaged over its area or taken as it is; `token` is a transformer's class token.
    Of timm's transformers, `avg` averages the patches only."""
    beside: list[BesideConfig] = Field(default=[])
    """Further networks: what all of them see in an image stands side by side, for one head (docs/fusion.md)."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """`auto` takes what the device computes natively, if a look at the first images shows that it loses nothing that
    tells them apart, else fp32."""
    device: str = "auto"
    """`auto` takes cuda, mps or cpu, the first that is there."""
    decode: Literal["exact", "device"] = "exact"
    """`exact`: one decoder everywhere, so that a model sees the same pixels in training and serving; `device`: JPEG
    files are decoded on the GPU, whose decoder may round pixels by a few of 255 levels."""
    batch_size: int | None = Field(default=None, ge=1)
    """Images in one forward pass; by default by their size and the device. One too large for the memory is halved."""
    compile: Literal["auto", "always", "never"] = "auto"
    """`auto` compiles the forward pass where the work left outweighs the compilation."""
    workers: WorkersConfig = WorkersConfig()
    """Who computes what is missing."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that are named."""
        return () if self.layer is None else (self.layer,) if isinstance(self.layer, str) else tuple(self.layer)

    def alone(self, geometry: dict[str, Any]) -> list[tuple[ExtractConfig, dict[str, Any]]]:
        """The section of each network by itself, in the order of their features, and how that network looks at images.

        Args:
            geometry: of the first (`tasks.records.Preprocessed.geometry`); what is no other's own holds for all.
        """
        first = self.model_copy(update={"beside": []})
        found = [(first, geometry)]
        for other in self.beside:
            changes = {key: getattr(other, key) for key in ("backbone", "weights", "layer", "pool")}
            changes["precision"] = other.precision or self.precision
            found.append((first.model_copy(update=changes), geometry | other.geometry))
        return found
