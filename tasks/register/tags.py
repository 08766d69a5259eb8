"""Names of the tags by which a version says what it is, and of models that are none.

Tags can be edited on MLflow's page, so that what is read of one may be anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

CANDIDATE, DATA, HELD_OUT = "candidate", "data_version", "held_out"
SCORE = "score"
"""On validation; see `tasks.register.merits`."""
TEACHERS = "teachers"
"""Registered versions that it learned from, with commas between them."""
ADAPTED = "adapted"
"""Of a method of adaptation: ``yes``, or ``no`` where it has kept the model that has seen no image of the target."""
LEARNED_FROM, PARTIAL = "learned_from", "partial"
"""The splits whose labels it has seen, with commas between them, `PARTIAL` among them where it has further tasks."""
BACKBONES = "backbones"
"""How many networks look at an image, where it is more than one."""
GATE = "gate."
"""How the tags begin that say what gates found and said: ``gate.1``, ``gate.2``...; see `tasks.register.rulings`."""

PREFIX = ".headstart-"
"""How the names of models begin that are none; no pipeline's can. See `tasks.register.series`."""


def number_of(tags: Mapping[str, str], name: str) -> float | None:
    """The finite number that a tag holds; None where there is no such tag, or it holds something else."""
    try:
        value = float(tags[name])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None


def entry_of(tags: Mapping[str, str], name: str) -> dict[str, Any] | None:
    """The JSON object that a tag holds; None where there is no such tag, or it holds something else."""
    try:
        entry = json.loads(tags[name])
    except (KeyError, ValueError):
        return None
    return entry if isinstance(entry, dict) else None
