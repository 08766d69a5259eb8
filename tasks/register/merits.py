"""What a version says of itself in its tags, so that the gate can tell what may be compared."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from itertools import chain

import pandas as pd

from tasks.fingerprint import RunningFingerprint, fingerprint
from tasks.records import Candidate, Dataset, Evaluation
from tasks.register.client import Version
from tasks.register.tags import SCORE
from tasks.target import chance

FIGURE, LOW, HIGH, CHANCE = "figure", "score_low", "score_high", "score_chance"
CLASSES, IMAGES = "classes", "validation"
ACCURACY, AVERAGE_PRECISION, EXPLAINED = "accuracy", "average precision", "R²"
FIGURES = {
    "class": ("accuracy", ACCURACY), "labels": ("average_precision_macro", AVERAGE_PRECISION),
    "number": ("r2", EXPLAINED),
}  # fmt: skip
"""What a version is scored by, by the kind of its leading task: a figure's name, and what it is called."""

LISTED = 4_000
"""Characters of class names that are kept: databases of earlier MLflow versions cut tags off at 5,000."""


@dataclass(frozen=True)
class Merit:
    """A score on validation, and what it was measured on.

    Attributes:
        figure: what the score is, in words.
        low, high: its 95% interval.
        chance: what an answer gets that has not looked at the image.
        classes: their names in the order of the alphabet (JSON) or, where these are too many, their number and a
            fingerprint; of a number, in their place, what it is and its unit.
        images: fingerprint of the images that it was measured on, and of their labels.
    """

    figure: str
    score: float
    low: float
    high: float
    chance: float
    classes: str
    images: str

    @classmethod
    def measured(cls, dataset: Dataset, candidate: Candidate, evaluation: Evaluation) -> Merit:
        """Of a candidate on the images that its settings were chosen on."""
        manifest = dataset.read_manifest()
        # A head that was chosen by cross-validation was scored on all that it learned from.
        splits = ("train", "tune") if candidate.cross_validated else (dataset.choose_on,)
        rows = manifest[manifest["split"].isin(splits)]
        number = dataset.target.kind == "number"
        counts = Counter(chain.from_iterable(map(_labels, rows["label"]))).values()
        blind = chance(dataset.target.kind, counts, len(rows))
        low, high = _interval(rows, dataset, candidate, evaluation, blind)
        _, figure = FIGURES[dataset.target.kind]
        known = (f"{dataset.target.name} in {dataset.target.unit or 'no unit'}",) if number else dataset.classes
        return cls(figure, candidate.score, low, high, blind, _listed(known), _named(rows))

    @classmethod
    def of(cls, version: Version) -> Merit | None:
        """As a version's tags tell it; None where they do not, since it was registered by other means or long ago, or
        somebody has edited them."""
        tags = version.tags
        try:
            score, low, high, chance = (float(tags[key]) for key in (SCORE, LOW, HIGH, CHANCE))
            _read(tags[CLASSES])
            return cls(tags[FIGURE], score, low, high, chance, tags[CLASSES], tags[IMAGES])
        except (KeyError, ValueError):
            return None

    @property
    def tags(self) -> dict[str, str]:
        numbers = {SCORE: self.score, LOW: self.low, HIGH: self.high, CHANCE: self.chance}
        named = {FIGURE: self.figure, CLASSES: self.classes, IMAGES: self.images}
        return {key: repr(value) for key, value in numbers.items()} | named

    @property
    def class_names(self) -> list[str] | None:
        """None where they are too many to be kept."""
        return _read(self.classes)[0]

    @property
    def class_count(self) -> int:
        return _read(self.classes)[1]


def _read(classes: str) -> tuple[list[str] | None, int]:
    """Names of classes, where these are kept, and their number, from the tag that `_listed` makes.

    Raises:
        ValueError: it has made none such.
    """
    if not classes.startswith("["):
        return None, int(classes.split(" ")[0].replace(",", ""))
    names = json.loads(classes)
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"no names of classes: {classes}")
    return names, len(names)


def _listed(classes: tuple[str, ...]) -> str:
    names = sorted(classes)
    text = json.dumps(names, ensure_ascii=False)
    return text if len(text) <= LISTED else f"{len(names):,} classes, {fingerprint(names)}"


def _named(rows: pd.DataFrame) -> str:
    """A fingerprint of contents and labels, whatever the files are called."""
    running = RunningFingerprint()
    for content, labels in sorted(zip(rows["hash"], map(_labels, rows["label"]), strict=True)):
        running.add(content, labels)
    return running.value


def _labels(label: object) -> list[str]:
    if isinstance(label, float):
        return [repr(label)]
    return [label] if isinstance(label, str) else sorted(label)  # type: ignore[call-overload]


def _interval(
    rows: pd.DataFrame, dataset: Dataset, candidate: Candidate, evaluation: Evaluation, blind: float
) -> tuple[float, float]:
    """The evaluation's, where it measured the same answers.

    Else, of R², Fisher's (1921) of the correlation whose square it is, and of others Wilson's, for as many answers as
    there are images or, where these come in groups, groups. That of average precision counts the images of a class
    (Boyd et al. 2013, "Area under the precision-recall curve").
    """
    name, _ = FIGURES[dataset.target.kind]
    known = evaluation.metrics.get(f"{dataset.choose_on}/{name}")
    if known and candidate.held_out is None and not candidate.cross_validated and not any(map(math.isnan, known)):
        return known[1], known[2]
    answers = len(rows)
    if rows["group"].notna().any():
        answers = rows["group"].nunique() + int(rows["group"].isna().sum())
    if dataset.multi_label:
        answers = round(answers * blind)
    answers = max(1, answers)
    if dataset.target.kind == "number":
        return _explained_within(candidate.score, answers)
    from tasks.evaluate.scores.intervals import wilson  # SciPy takes a second, and a version that is known needs none

    _, low, high = wilson(round(candidate.score * answers), answers)
    return low, high


def _explained_within(value: float, images: int) -> tuple[float, float]:
    """Bounds of R², by Fisher's transformation of its root; of what explains nothing, as far below 0 as above."""
    if images <= 3:
        return -math.inf, 1.0
    half = 1.96 / math.sqrt(images - 3)
    if value <= 0:
        return value - math.tanh(half) ** 2, value + math.tanh(half) ** 2
    middle = math.atanh(min(math.sqrt(value), 1 - 1e-12))
    low = math.tanh(middle - half)
    return math.copysign(low**2, low), math.tanh(middle + half) ** 2
