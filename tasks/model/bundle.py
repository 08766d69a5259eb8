"""The files of a packaged classifier, and what it says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DESCRIPTION, BACKBONE, HEAD = "classifier.json", "backbone.safetensors", "head.safetensors"
REFERENCE = "reference.safetensors"
"""What the model is used to; see `tasks.model.reference`."""


def describe(folder: Path) -> dict[str, Any]:
    """What `tasks.model.classifier.package` noted: ``classes``, ``backbone`` (an outline), ``recipe``, ``precision``
    (``float32`` or ``bfloat16``) and ``weights`` (where those of the backbone came from); ``beside``: the last four of
    each further backbone; ``targets``: name, kind, classes and unit of each task, the leading one first. Models of
    earlier versions do not note these: theirs is one task, of ``classes``."""
    return json.loads((folder / DESCRIPTION).read_text())


def backbones_in(folder: Path) -> list[tuple[dict[str, Any], Path]]:
    """What is noted of each backbone of a packaged classifier, in the order of their features, and its weights."""
    first = describe(folder)
    return [(about, folder / backbone_file(place)) for place, about in enumerate((first, *first.get("beside", ())), 1)]


def backbone_file(place: int) -> str:
    """Name of the weights of the first backbone (1), or of another."""
    return BACKBONE if place == 1 else f"{Path(BACKBONE).stem}_{place}{Path(BACKBONE).suffix}"


def head_file(name: str) -> str:
    """Name of the head of a further task."""
    return f"{Path(HEAD).stem}_{name}{Path(HEAD).suffix}"


def bundle_in(folder: Path) -> Path:
    """The folder of the packaged classifier within a model's files."""
    [description] = folder.rglob(DESCRIPTION)
    return description.parent
