"""Two runs of one configuration held against each other: figures, predictions, and what they were made by."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from flows.lineage.origin import ENVIRONMENT, LOCK, read_lock
from flows.lineage.restoring import differing
from flows.lineage.subject import Subject
from tasks.register.store import keeper_of

TELLING = ("python", "platform", "processor", "cores", "variables", "threads", "gpu")
"""What of a machine may change the last digits of a figure."""

SPLITS = ("val", "test", "tune")


@dataclass(frozen=True)
class Likeness:
    """What came out, and what was different.

    Attributes:
        figures: name to the value then and now; None where a run does not have it.
        predictions: by split, and of further tasks by ``split/task``, how far they are from each other.
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
    difference of a probability or, of a number, of itself and its bounds: NaN where some are NaN in either run or
    both, which is never the same."""

    images: int
    unmatched: int
    changed: int
    largest: float
    what: str = "probabilities"

    @property
    def is_none(self) -> bool:
        return not (self.unmatched or self.changed or self.largest)

    def __str__(self) -> str:
        if self.is_none:
            return f"identical ({self.images:,} images)"
        unmatched = f", {self.unmatched:,} images in one run only" if self.unmatched else ""
        answers = f"{self.changed:,} of {self.images:,} answers"
        most = "of which some are NaN" if np.isnan(self.largest) else f"by {self.largest:.2g} at most"
        return f"different: {answers}, {self.what} {most}{unmatched}"


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
    """How far two tables of predictions (path, predicted, and probability or, of numbers, low and high) are from each
    other."""
    numbers = "probability" not in then
    both = then.merge(now, on="path", suffixes=("_then", "_now"))
    unmatched = len(then) + len(now) - 2 * len(both)
    answers = [both[f"predicted_{when}"].map(_text) for when in ("then", "now")]
    columns = ("predicted", "low", "high") if numbers else ("probability",)
    apart = [_apart(both[f"{name}_then"], both[f"{name}_now"]) for name in columns] if len(both) else [0.0]
    changed = int((answers[0] != answers[1]).sum())
    return Distance(len(both), unmatched, changed, float(np.max(apart)), "numbers" if numbers else "probabilities")


def _apart(then: pd.Series, now: pd.Series) -> float:
    """The largest difference of two columns of numbers, or of lists of them, one for each class."""
    before, after = (np.stack([np.asarray(each, np.float64) for each in column]) for column in (then, now))
    return float(np.abs(before - after).max())


def _text(answer: Any) -> str:
    """An answer, which is a list where an image may have several labels, and may be a number."""
    if isinstance(answer, float):
        return repr(answer)
    return answer if isinstance(answer, str) else json.dumps(None if answer is None else list(answer))


def _figures(subject: Subject) -> dict[str, float]:
    metrics = subject.metrics
    return {name: value for name, value in metrics.items() if f"{name}_low" in metrics and not name.startswith("gain/")}


def _predictions(then: Subject, now: Subject) -> dict[str, Distance]:
    found = {}
    parts = [name.split("/") for name in then.metrics]
    further = dict.fromkeys(part[1] for part in parts if part[0] in SPLITS and len(part) == 3)
    for split in SPLITS:
        for task in ("", *further):
            first, again = (_table(each, f"{split}_{task}" if task else split) for each in (then, now))
            if first is not None and again is not None:
                found[f"{split}/{task}" if task else split] = distance(first, again)
    return found


def _table(subject: Subject, begins: str) -> pd.DataFrame | None:
    keeper = keeper_of(subject.client, subject.run, "evaluation").info.run_id if subject.run else None
    content = subject.content(f"tables/{begins}_predictions.parquet", keeper)
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
