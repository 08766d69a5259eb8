"""What has to be said beside the figures of an evaluation, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.evaluate.further import AnyScores
from tasks.evaluate.numbers.answers import Numbers
from tasks.evaluate.report import Answers
from tasks.evaluate.scores.intervals import disagree
from tasks.evaluate.scores.metrics import areas
from tasks.evaluate.scores.regression import NumberScores
from tasks.extract.look_alikes import read_look_alikes
from tasks.records import Dataset
from tasks.train.task import LEARNED
from tasks.wording import quantity

NAMED = 5
"""Most classes that a line names."""

NOTED = 0.01
"""Share of look-alikes from which on they are worth a line: fewer can change a figure by less than it is rounded to."""

FEW = 20
"""With fewer groups, intervals depend on assumptions as much as on the images."""


def findings(
    found: Sequence[tuple[Answers | Numbers, AnyScores]], dataset: Dataset, look_alikes: Path | None
) -> Iterator[str]:
    """The findings of an evaluation.

    Args:
        found: the answers on each split, and what was measured of them.
        look_alikes: folder of ``look_alikes.csv``, where there are any.
    """
    for answers, scores in found:
        yield from _groups(answers)
        if not isinstance(scores, NumberScores):
            yield from _classes(answers.split, scores.per_class)
        if look_alikes:
            yield from _look_alikes(answers, read_look_alikes(look_alikes), dataset)
    if len(found) == 2:
        yield from _disagreement([(of.split, scores) for of, scores in found], dataset)


def _groups(answers: Answers | Numbers) -> Iterator[str]:
    if answers.groups is not None and (count := int(answers.groups.max()) + 1) < FEW:
        which = "one group: nothing is known of others" if count == 1 else f"{count} groups, so intervals are rough"
        yield f"{answers.split}: its {len(answers.rows):,} images come in only {which}"


def _classes(split: str, per_class: pd.DataFrame) -> Iterator[str]:
    missing = per_class.loc[per_class["images"] == 0, "label"].tolist()
    if missing:
        more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
        yield (
            f"{split}: no image of {', '.join(missing[:NAMED])}{more}, so that macro figures are over "
            f"{len(per_class) - len(missing):,} of {len(per_class):,} classes"
        )


def _look_alikes(answers: Answers | Numbers, pairs: pd.DataFrame, dataset: Dataset) -> Iterator[str]:
    """Images so much like ones that were learned from that they tell little of new ones, as where a split was cut out
    of augmented copies."""
    known: set[str] = set()
    for side, other in (("first", "second"), ("second", "first")):
        across = (pairs[f"{side}_split"] == answers.split) & pairs[f"{other}_split"].isin(LEARNED)
        known |= set(pairs.loc[across & pairs["confirmed"], side])
    alike = answers.rows["path"].isin(known).to_numpy()
    if alike.mean() < NOTED:
        return
    line = f"{answers.split}: {alike.sum():,} of {len(alike):,} images look like ones that were learned from"
    rest = ~alike
    if isinstance(answers, Answers) and answers.targets.ndim == 2:
        rest = rest & answers.targets.any(1)  # without a label there is no average precision
    if not rest.any():
        yield f"{line}: its figures may be far too good"
    else:
        yield f"{line}, so its figures may be too good: {_headline(answers, ~alike, dataset)} without them"


def _disagreement(pair: Sequence[tuple[str, AnyScores]], dataset: Dataset) -> Iterator[str]:
    (chosen, one), (held_out, other) = pair
    if disagree(one.sure, other.sure):
        yield (
            f"{chosen} and {held_out} disagree: {_figure(dataset)} {one.sure[0]:.4f} and {other.sure[0]:.4f} differ by "
            "more than chance explains (at 1%), so their images are of different kinds, or too much was chosen on "
            f"{chosen}"
        )


def _figure(dataset: Dataset) -> str:
    return {"class": "accuracy", "labels": "average precision", "number": "R²"}[dataset.target.kind]


def _headline(answers: Answers | Numbers, chosen: np.ndarray, dataset: Dataset) -> str:
    """The figure that models are judged by, of some of the images, in words."""
    if isinstance(answers, Numbers):
        return f"MAE {quantity(float(answers.errors[chosen].mean()), answers.unit)}"
    targets, probabilities = answers.targets[chosen], answers.probabilities[chosen]
    if targets.ndim == 2:
        value = areas(targets > 0, probabilities)["average_precision_macro"].value
    else:
        value = float((probabilities.argmax(1) == targets).mean())
    return f"{_figure(dataset)} {value:.4f}"
