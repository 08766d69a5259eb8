"""How long the packaged model takes over one image, as somebody who waits for an answer would see it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.model.classifier import ImageClassifier
from tasks.progress import progress
from tasks.records import Dataset

WARM, MOST, SECONDS = 3, 100, 2.0
"""Images that do not count, at most so many that do, and about how long to go on."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds from an image's bytes to its answer, one image at a time, and what was measured.

    Attributes:
        p50, p95: of 20 images and 1 in 20 took longer.
        size: bytes of the packaged model, without the code that it carries.
        device: what answered, in words.
    """

    p50: float
    p95: float
    images: int
    size: int
    device: str


def measure_latency(bundle: Path, images: Sequence[Path]) -> Latency:
    """Measure a packaged model on some images, which are read beforehand.

    Args:
        images: files that it can decode, at least one.
    """
    classifier = ImageClassifier.load(bundle)
    contents = [path.read_bytes() for path in images[:MOST]]
    for content in contents[:WARM]:
        classifier.answers([content])
    took: list[float] = []
    deadline = time.monotonic() + SECONDS
    with progress("latency", len(contents), "img") as advance:
        for content in contents:
            began = time.perf_counter()
            classifier.answers([content])
            took.append(1000 * (time.perf_counter() - began))
            advance(1)
            if time.monotonic() > deadline:
                break
    half, most = np.quantile(took, [0.5, 0.95])
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    return Latency(float(half), float(most), len(took), size, _device(classifier))


def held_out(dataset: Dataset) -> list[Path]:
    """A sample of the held-out images, to measure on."""
    manifest = dataset.read_manifest()
    hashes = manifest.loc[manifest["split"] == dataset.report_on, "hash"]
    return [dataset.image(content) for content in hashes.sample(min(MOST, len(hashes)), random_state=0)]


def _device(classifier: ImageClassifier) -> str:
    device = classifier.engines[0].device
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} CPU cores ({platform.machine()})" if device.type == "cpu" else device.type
