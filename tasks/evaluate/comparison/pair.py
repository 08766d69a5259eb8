"""Two models' answers on the same images, and what they tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType

import numpy as np
import pandas as pd

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.scores import metrics, multi_label
from tasks.evaluate.scores.intervals import Sample
from tasks.evaluate.scores.paired import (
    Difference,
    detectable,
    detectable_of,
    difference_of_shares,
    differences,
    differences_of_areas,
    holm,
    p_of,
    p_value,
)
from tasks.evaluate.scores.selective import rightness
from tasks.evaluate.slices.parts import Part
from tasks.groups import groups_among
from tasks.model.decisions import THRESHOLD

COLUMNS = ["slice", "kind", "images", "champion", "candidate", "difference", "low", "high", "p"]
"""Of a table of slices, beside p_holm."""


@dataclass(frozen=True)
class Pair:
    """A split's images that neither model has learned from, or from nearly the same, and both models' answers.

    Attributes:
        rows: the manifest's, ``N`` of them, numbered from 0.
        columns: names of the ``C`` classes.
        targets: places in ``columns`` int64 ``[N]`` or, with several labels an image, ones and zeros ``[N, C]``.
        ours, theirs: probabilities float64 ``[N, C]``, 0 for a class that a model does not know.
        groups: of each image int64 ``[N]``, where images come in groups (see `tasks.groups`).
        left_out: images of the split that are not among them; near: those of them that neither has learned from, but
            one of the two from nearly the same.
        task: its name, unless it leads.
    """

    split: str
    rows: pd.DataFrame
    columns: tuple[str, ...]
    targets: np.ndarray
    ours: np.ndarray
    theirs: np.ndarray
    groups: np.ndarray | None
    left_out: int
    near: int = 0
    task: str = ""

    @property
    def right(self) -> tuple[np.ndarray, np.ndarray]:
        """Of either, whether each image's answer is right, with several labels all of it: bool ``[N]``."""
        return rightness(self.targets, self.ours), rightness(self.targets, self.theirs)

    @property
    def headline(self) -> str:
        """Name of the figure that both are judged by."""
        return "accuracy" if self.targets.ndim == 1 else "average_precision_macro"

    @property
    def p(self) -> float:
        """See `tasks.evaluate.scores.paired.p_value`; with several labels an image, of the headline's difference."""
        if self.targets.ndim == 1:
            return p_value(*self.right, self.groups)
        return p_of(*self._of_areas)

    @property
    def detectable(self) -> float:
        """See `tasks.evaluate.scores.paired.detectable`; with several labels an image, of the headline's difference."""
        if self.targets.ndim == 1:
            return detectable(*self.right, self.groups)
        return detectable_of(*self._of_areas)

    @property
    def moved(self) -> tuple[int, int]:
        """How many images were gained, and how many lost."""
        ours, theirs = self.right
        return int((ours & ~theirs).sum()), int((theirs & ~ours).sum())

    def differences(self, config: EvaluateConfig) -> dict[str, Difference]:
        """Of every figure in `tasks.evaluate.scores.metrics` or, with several labels, `.multi_label`."""
        sample = Sample(len(self.rows), self.groups, config.seed)
        of: ModuleType
        few = min(config.resamples, metrics.RANKED)
        if self.targets.ndim == 1:
            of, share, targets = metrics, "accuracy", self.targets
            ours, theirs = (side / side.sum(1, keepdims=True) for side in (self.ours, self.theirs))
        else:
            of, share, targets, ours, theirs = multi_label, "exact_match", self.targets > 0, self.ours, self.theirs
        found = differences(of.decided(targets, ours), of.decided(targets, theirs), sample, config.resamples)
        for kind in (of.ranked, metrics.calibrated):
            found |= differences(kind(targets, ours), kind(targets, theirs), sample, few)
        found |= differences_of_areas(metrics.areas(targets, ours), metrics.areas(targets, theirs), sample)
        return found | {share: difference_of_shares(*self.right, self.groups)}

    def slices(self, seed: int, parts: Sequence[Part] = ()) -> pd.DataFrame:
        """The shares of right answers in each class and each of the ``parts``, with p-values raised for so many
        questions."""
        ours, theirs = self.right
        rows = []
        for name, kind, chosen in self._parts(parts):
            groups = groups_among(self.groups, chosen)
            of = difference_of_shares(ours[chosen], theirs[chosen], groups)
            rows.append({
                "slice": name, "kind": kind, "images": int(chosen.sum()), "champion": of.theirs, "candidate": of.ours,
                "difference": of.value, "low": of.low, "high": of.high,
                "p": p_value(ours[chosen], theirs[chosen], groups, seed),
            })  # fmt: skip
        table = pd.DataFrame(rows, columns=COLUMNS)
        return table.assign(p_holm=holm(table["p"].tolist()))

    def changed(self) -> pd.DataFrame:
        """The images that only one of the two has right, the surest answers first: path, hash, label, before, after
        and change, ``gained`` or ``lost``."""
        ours, theirs = self.right
        which = np.flatnonzero(ours != theirs)
        sureness = np.maximum(self.ours, self.theirs)[which].max(1, initial=0.0)
        which = which[np.argsort(-sureness, kind="stable")]
        labels = self.rows.loc[which, "label"]
        return self.rows.loc[which, ["path", "hash"]].assign(
            label=[each if isinstance(each, str) else ", ".join(each) for each in labels],
            before=[self._named(self.theirs[row]) for row in which],
            after=[self._named(self.ours[row]) for row in which],
            change=np.where(ours[which], "gained", "lost"),
        )

    @cached_property
    def _of_areas(self) -> tuple[Difference, Sample]:
        """The headline's difference, with several labels an image, and what it is measured on."""
        targets, sample = self.targets > 0, Sample(len(self.rows), self.groups)
        ours, theirs = (metrics.areas(targets, side) for side in (self.ours, self.theirs))
        return differences_of_areas(ours, theirs, sample)[self.headline], sample

    def _named(self, probabilities: np.ndarray) -> str:
        if self.targets.ndim == 1:
            return self.columns[int(probabilities.argmax())]
        return ", ".join(name for name, p in zip(self.columns, probabilities, strict=True) if p >= THRESHOLD)

    def _parts(self, parts: Sequence[Part]) -> Iterator[tuple[str, str, np.ndarray]]:
        of = metrics.positives(self.targets, len(self.columns))
        for place in np.flatnonzero(of.any(0)):
            yield self.columns[place], "class", of[:, place]
        for part in parts:
            yield part.name, part.kind, part.chosen
