"""Where a frozen network computes, and how precisely: settled by what the device has and by a look at the numbers."""

from __future__ import annotations

import torch

from tasks.errors import ConfigurationError
from tasks.extract.backbones import Backbone
from tasks.wording import first_line

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

MOST_NOISE = 0.2
"""Error of a lower precision, in units of the features' own spread over images, from which on it is not taken: what
tells images apart is kept to 96%. MobileNetV2 on photos shows 0.04 to 0.08 in bf16, ResNet-18 0.01; a network whose
batch norms are not folded shows more than 1."""

CHECKED = 16
"""Images that a precision is checked on."""


def choose_device(asked: str = "auto") -> torch.device:
    """The asked device, or the first there is of cuda, mps and cpu.

    Raises:
        ConfigurationError: the asked device is not there.
    """
    if asked != "auto":
        try:
            torch.empty(0, device=asked)
            return torch.device(asked)  # with a number only where one was asked for
        except (RuntimeError, AssertionError) as error:
            raise ConfigurationError(f"extract.device: {asked!r} is not there: {first_line(error)}") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_precision(asked: str, device: torch.device) -> torch.dtype:
    """The asked precision; for ``auto``, bf16 or fp16 where the device computes it natively, else fp32."""
    if asked != "auto":
        return PRECISIONS[asked]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    native = device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
    return torch.bfloat16 if native else torch.float32


@torch.inference_mode()
def noise(rough: Backbone, exact: Backbone, images: torch.Tensor) -> float:
    """How much of what tells images apart a lower precision loses.

    Args:
        rough, exact: the backbone in the lower precision and in fp32, on the device of ``images``.
        images: uint8 ``[N, 3, S, S]``, at least two different ones.

    Returns:
        Root mean square of the difference between rough and exact features, divided by that of the exact features'
        deviation from their mean over the images. Infinite where a feature is not finite.
    """
    wanted, found = exact(images).double(), rough(images).double()
    if not found.isfinite().all():
        return float("inf")
    spread = (wanted - wanted.mean(0)).square().mean()
    return float(((found - wanted).square().mean() / spread).sqrt()) if spread > 0 else 0.0
