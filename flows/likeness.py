"""Two runs of one configuration held against each other: figures, predictions, and what they were made by."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from flows.origin import ENVIRONMENT, LOCK, read_lock
from flows.restoring import differing
from flows.subject import Subject

TELLING = ("python", "platform", "processor", "cores", "variables", "threads", "gpu")
"""What of a machine may change the last digits of a figure."""


@dataclass(frozen=True)
class Likeness:
    """What came out, and what was different.

    Attributes:
        figures: name to the value then and now; None where a run does not have it.
        predictions: by split, how far they are from each other.
        is_same_model: whether the head, and the backbone where it was tuned, are the same to the last bit.
        differences: of code, data, libraries and machine, in words.
    """

    figures: dict[str, tuple[float | None, float | None]]
    predictions: dict[str, Distance]
    is_same_model: bool
    differences: list[str]

    @property
    def is_identical(self) -> bool:
        """Whether every prediction is the same, and there are some."""
        return bool(self.predictions) and all(each.is_none for each in self.predictions.values())


@dataclass(frozen=True)
class Distance:
    """Of the predictions of a split: how many images only one run has, how many have another answer, and the largest
    difference of a probability."""

    images: int
    unmatched: int
    changed: int
    largest: float

    @property
    def is_none(self) -> bool:
        return not (self.unmatched or self.changed or self.largest)

    def __str__(self) -> str:
        if self.is_none:
            return f"identical ({self.images:,} images)"
        unmatched = f", {self.unmatched:,} images in one run only" if self.unmatched else ""
        answers = f"{self.changed:,} of {self.images:,} answers"
        return f"different: {answers}, probabilities by {self.largest:.2g} at most{unmatched}"


def likeness(then: Subject, now: Subject) -> Likeness:
    """Hold a run that was made again against the first one."""
    ours, theirs = _figures(now), _figures(then)
    return Likeness(
        figures={name: (theirs.get(name), ours.get(name)) for name in sorted({*ours, *theirs})},
        predictions=_predictions(then, now),
        is_same_model=then.tags.get("candidate") == now.tags.get("candidate") is not None,
        differences=list(_differences(then, now)),
    )


def distance(then: pd.DataFrame, now: pd.DataFrame) -> Distance:
    """How far two tables of predictions (path, predicted, probability) are from each other."""
    both = then.merge(now, on="path", suffixes=("_then", "_now"))
    unmatched = len(then) + len(now) - 2 * len(both)
    answers = [both[f"predicted_{when}"].map(_text) for when in ("then", "now")]
    apart = (both["probability_then"].astype(float) - both["probability_now"].astype(float)).abs().max()
    return Distance(len(both), unmatched, int((answers[0] != answers[1]).sum()), float(apart) if len(both) else 0.0)


def _text(answer: Any) -> str:
    """An answer, which is a list where an image may have several labels."""
    return answer if isinstance(answer, str) else json.dumps(None if answer is None else list(answer))


def _figures(subject: Subject) -> dict[str, float]:
    metrics = subject.metrics
    return {name: value for name, value in metrics.items() if f"{name}_low" in metrics and not name.startswith("gain/")}


def _predictions(then: Subject, now: Subject) -> dict[str, Distance]:
    found = {}
    for split in ("val", "test", "tune"):
        first, again = (_table(each, split) for each in (then, now))
        if first is not None and again is not None:
            found[split] = distance(first, again)
    return found


def _table(subject: Subject, split: str) -> pd.DataFrame | None:
    content = subject.content(f"tables/{split}_predictions.parquet", subject.tags.get("evaluation.files"))
    return None if content is None else pd.read_parquet(io.BytesIO(content))


def _differences(then: Subject, now: Subject) -> list[str]:
    """What may explain that figures are."""
    tags = {"code": "code.version", "dataset": "dataset", "backbone": "backbone.digest", "device": "backbone.device"}
    pairs = {name: (then.tags.get(tag), now.tags.get(tag)) for name, tag in tags.items()}
    first, again = (_machine(each) for each in (then, now))
    pairs |= {name: (first.get(name), again.get(name)) for name in TELLING}
    told = [f"{name}: {old} → {new}" for name, (old, new) in pairs.items() if None not in (old, new) and old != new]
    locks = [read_lock(each.text(LOCK) or "") for each in (then, now)]
    return told + differing(*locks)


def _machine(subject: Subject) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(subject.text(ENVIRONMENT) or "{}")
    return kept | {key[8:]: value for key, value in subject.tags.items() if key.startswith("machine.")}
