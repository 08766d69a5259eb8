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
    (``float32`` or ``bfloat16``) and ``weights`` (where those of the backbone came from)."""
    return json.loads((folder / DESCRIPTION).read_text())


def bundle_in(folder: Path) -> Path:
    """The folder of the packaged classifier within a model's files."""
    [description] = folder.rglob(DESCRIPTION)
    return description.parent
