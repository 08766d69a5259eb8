"""The frozen forward pass: images in, features out, as fast as the machine goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from tasks.errors import ConfigurationError
from tasks.extract.backbones import Backbone
from tasks.ingest.decode import ImageLike
from tasks.preprocess.recipe import Recipe, batches


def choose_device(asked: str = "auto") -> torch.device:
    """The asked device, or the first there is of cuda, mps and cpu.

    Raises:
        ConfigurationError: the asked device is not there.
    """
    if asked != "auto":
        try:
            return torch.empty(0, device=asked).device
        except (RuntimeError, AssertionError) as error:
            raise ConfigurationError(f"extract.device: {asked!r} is not there: {str(error).splitlines()[0]}") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_precision(asked: str, device: torch.device) -> torch.dtype:
    """bf16 where asked for or, for ``auto``, where the device computes it natively; else fp32."""
    if asked == "auto":
        if device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            native = device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
        asked = "bf16" if native else "fp32"
    return torch.bfloat16 if asked == "bf16" else torch.float32


def forward_all(
    backbone: Backbone,
    images: Sequence[ImageLike],
    recipe: Recipe,
    *,
    device: torch.device,
    precision: torch.dtype,
    batch_size: int,
) -> Iterator[torch.Tensor]:
    """Features of images in their order, a batch at a time: float32 ``[n, width]`` on the CPU.

    Decoding runs in threads beside the forward pass. Of several views of an image, the mean is taken.

    Raises:
        DataError: an image cannot be decoded.
    """
    backbone = backbone.to(device).to(memory_format=torch.channels_last).eval()
    mixed = torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)
    for pixels in batches(images, recipe, max(1, batch_size // recipe.count)):
        with torch.inference_mode(), mixed:
            views = pixels.to(device).reshape(-1, *pixels.shape[-3:])
            features = backbone(views).reshape(len(pixels), recipe.count, -1).mean(1).cpu()
        # Outside the block: a generator's caller would go on in the contexts that it yields in.
        yield features
