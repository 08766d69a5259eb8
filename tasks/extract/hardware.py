"""JPEG files decoded by the device that the forward pass runs on, a batch at a time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torchvision.io import ImageReadMode, decode_jpeg

from tasks.ingest.decode import ImageLike, open_image, pixels_of
from tasks.ingest.depth import orientation
from tasks.limits import ALLOWED, Limits

# It says so at every call since 0.29; its successor does not decode on the device in batches everywhere yet.
warnings.filterwarnings("ignore", message="The image decoding", category=DeprecationWarning)


def decode_on(device: torch.device, images: Sequence[ImageLike], limits: Limits = ALLOWED) -> list[torch.Tensor]:
    """Pixels uint8 ``[3, H, W]`` of images, on the device.

    Plain JPEG files go through nvJPEG or, on a CPU, libjpeg-turbo, all of the batch at once; whatever else there is
    (other formats, rotated, CMYK, too large) through `decode`, so that the rule for them stays in one place. nvJPEG may
    round pixels otherwise than the CPU's decoder, by a few of 255 levels.

    Raises:
        DataError: an image cannot be decoded.
    """
    pixels: list[torch.Tensor | None] = [None] * len(images)
    plain = {
        number: content for number, image in enumerate(images) if (content := _plain_jpeg(image, limits)) is not None
    }
    if plain:
        try:
            decoded = decode_jpeg(list(plain.values()), mode=ImageReadMode.RGB, device=device)
        except RuntimeError:  # one of them is damaged: the loop below says which
            decoded = []
        for number, image in zip(plain, decoded, strict=False):
            pixels[number] = image
    return [
        _decoded(device, image, limits) if found is None else found for image, found in zip(images, pixels, strict=True)
    ]


def _decoded(device: torch.device, image: ImageLike, limits: Limits) -> torch.Tensor:
    with pixels_of(image, limits) as pixels:
        return torch.from_numpy(pixels).permute(2, 0, 1).to(device)


def _plain_jpeg(image: ImageLike, limits: Limits) -> torch.Tensor | None:
    """The bytes uint8 ``[n]`` of a JPEG file that needs no more than decoding; None for everything else."""
    if not isinstance(image, str | Path | bytes):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = open_image(image, limits)
            plain = opened.format == "JPEG" and opened.mode in ("RGB", "L") and orientation(opened) == 1
    except Exception:  # of some twenty types; `decode` tells them
        return None
    if not plain:
        return None
    content = image if isinstance(image, bytes) else Path(image).read_bytes()
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)
