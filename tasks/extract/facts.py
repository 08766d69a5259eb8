"""What is known of every backbone without building it: one record each, from a table that `docs/backbone_facts.py`
writes."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "facts" / "backbones.csv"

BUILTIN = "resnet_32px"
"""The name of the built-in backbone."""

TIMM = "timm/"
"""What the names of timm's networks begin with, as the configuration writes them."""

TUNED_AT_ONCE = 32
"""Images of a batch, for an estimate of memory."""

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Facts:
    """A backbone, and how its pretrained weights look at images.

    Attributes:
        name: as ``extract.backbone`` takes it; timm's end with a tag that names the weights, ``.in1k`` say.
        parameters: without the network's own classifier.
        flops: of one image of ``size`` pixels, two per multiplication and addition.
        outputs: numbers that convolutions and matrix products give for such an image.
        size: side of the images in training, pixels.
        fit, crop, interpolation: see `tasks.preprocess.recipe.Recipe`.
        mean, std: what inputs were standardised with, in units of 1/255.
        licence: of the weights.
        source: the repository on the Hugging Face hub, or the address; empty where there are no weights.
    """

    name: str
    parameters: int
    flops: int
    outputs: int
    size: int
    fit: str
    crop: float
    interpolation: str
    mean: Triple
    std: Triple
    licence: str
    source: str

    @property
    def memory(self) -> int:
        """Bytes that tuning all of it takes, roughly: weights, gradients and two moments of each, and for a batch of
        `TUNED_AT_ONCE` images the outputs of its layers, and as much again for norms and activations; fp32."""
        return 16 * self.parameters + 2 * 4 * TUNED_AT_ONCE * self.outputs

    def as_text(self) -> dict[str, object]:
        """A row of the table."""
        triples = {key: " ".join(f"{value:.6g}" for value in getattr(self, key)) for key in ("mean", "std")}
        return {**vars(self), **triples}


@cache
def facts() -> dict[str, Facts]:
    """Every backbone by its name: the built-in one, torchvision's, timm's. Read in a hundredth of a second;
    none where a packaged model runs, which does without."""
    if not FILE.is_file():
        return {}
    with FILE.open(newline="") as file:
        return {row.name: row for row in map(_read, csv.DictReader(file))}


def facts_of(name: str) -> Facts | None:
    """The record of a name or, of one of timm's without a tag, of its default weights; None for what is not there."""
    return facts().get(name) or _defaults().get(name)


def own_looks(name: str) -> dict[str, object]:
    """How a backbone's weights look at images, as keys of the section ``preprocess``.

    Of torchvision's networks, the size only: they were always shown all of the square, scaled bilinearly.
    """
    record = facts_of(name)
    if not name.startswith(TIMM):
        return {"size": record.size} if record else {}
    if record is None:  # a newer timm's: as it looks by default
        return {"size": 224, "crop": 0.875, "interpolation": "bicubic"}
    return {"size": record.size, "fit": record.fit, "crop": record.crop, "interpolation": record.interpolation}


@cache
def _defaults() -> dict[str, Facts]:
    found: dict[str, Facts] = {}
    for name, record in facts().items():
        found.setdefault(name.rpartition(".")[0], record)
    return found


def _read(row: dict[str, str]) -> Facts:
    numbers = {key: int(row[key]) for key in ("parameters", "flops", "outputs", "size")}
    mean, std = (_triple(row[key]) for key in ("mean", "std"))
    return Facts(**{**row, **numbers, "crop": float(row["crop"]), "mean": mean, "std": std})  # type: ignore[arg-type]


def _triple(text: str) -> Triple:
    first, second, third = map(float, text.split())
    return first, second, third


def matching(pattern: str) -> Iterator[Facts]:
    """The records whose names contain a text, in the order of the table."""
    return (record for name, record in facts().items() if pattern.lower() in name.lower())
