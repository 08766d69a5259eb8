"""Two models' numbers of the same images, and what they tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tasks.evaluate.comparison.pair import COLUMNS
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.numbers.answers import Numbers
from tasks.evaluate.scores import metrics, regression
from tasks.evaluate.scores.intervals import Sample
from tasks.evaluate.scores.paired import Difference, detectable, differences, holm, p_value
from tasks.evaluate.slices.parts import Part, by_thirds
from tasks.groups import groups_among

COMPARED = ("mae", "rmse", "r2", "nll")
"""Figures of which less, or more, is better."""

LISTED = 200
"""Most images that are listed as gained or lost."""


@dataclass(frozen=True)
class NumberPair:
    """A split's images that neither model has learned from, or from nearly the same, and the numbers of both.

    Attributes:
        ours, theirs: of the same ``N`` rows.
        left_out, near: as those of `tasks.evaluate.comparison.pair.Pair`.
    """

    ours: Numbers
    theirs: Numbers
    left_out: int
    near: int = 0

    headline = "mae"

    @property
    def split(self) -> str:
        return self.ours.split

    @property
    def task(self) -> str:
        return self.ours.task

    @property
    def rows(self) -> pd.DataFrame:
        return self.ours.rows

    @property
    def groups(self) -> np.ndarray | None:
        return self.ours.groups

    @property
    def p(self) -> float:
        """Of the difference of the mean absolute errors; see `tasks.evaluate.scores.paired.p_value`."""
        return p_value(self.ours.errors, self.theirs.errors, self.groups)

    @property
    def detectable(self) -> float:
        """The difference of the mean absolute errors that four of five tests on so many images would have found."""
        return detectable(self.ours.errors, self.theirs.errors, self.groups)

    @property
    def moved(self) -> tuple[int, int]:
        """How many images are told more exactly than before, and how many less."""
        ours, theirs = self.ours.errors, self.theirs.errors
        return int((ours < theirs).sum()), int((ours > theirs).sum())

    def differences(self, config: EvaluateConfig) -> dict[str, Difference]:
        """Of the figures in `COMPARED`, and of calibration_error."""
        sample = Sample(len(self.rows), self.groups, config.seed)
        ours, theirs = ((each.targets, each.mean, each.spread) for each in (self.ours, self.theirs))
        found = differences(regression.measures(*ours), regression.measures(*theirs), sample, config.resamples)
        few = min(config.resamples, metrics.RANKED)
        calibrated = differences(regression.calibrated(*ours), regression.calibrated(*theirs), sample, few)
        return {name: found[name] for name in COMPARED} | calibrated

    def slices(self, seed: int, parts: Sequence[Part] = ()) -> pd.DataFrame:
        """The mean absolute errors of small, middle and large numbers and of each of the ``parts``: as
        `tasks.evaluate.comparison.pair.Pair.slices`, but that the difference is by how much less ours are."""
        ours, theirs = self.ours.errors, self.theirs.errors
        rows = []
        for part in (*by_thirds("value", self.ours.targets, ".4g"), *parts):
            groups = groups_among(self.groups, part.chosen)
            mine, other = ours[part.chosen], theirs[part.chosen]
            sample = Sample(len(mine), groups, seed)
            of = sample.anywhere(float((other - mine).mean()), _away(other - mine))
            rows.append({
                "slice": part.name, "kind": part.kind, "images": len(mine), "champion": float(other.mean()),
                "candidate": float(mine.mean()), "difference": of[0], "low": of[1], "high": of[2],
                "p": p_value(mine, other, groups, seed),
            })  # fmt: skip
        table = pd.DataFrame(rows, columns=COLUMNS)
        return table.assign(p_holm=holm(table["p"].tolist()))

    def changed(self) -> pd.DataFrame:
        """The images whose error has changed most: path, hash, label, before, after and change, ``gained`` (told more
        exactly) or ``lost``."""
        gain = self.theirs.errors - self.ours.errors
        which = np.argsort(-np.abs(gain), kind="stable")[:LISTED]
        which = which[gain[which] != 0]
        told = self.rows.loc[which, ["path", "hash"]].assign(
            label=self.ours.targets[which], before=self.theirs.mean[which], after=self.ours.mean[which]
        )
        rounded = {name: [float(f"{value:.5g}") for value in told[name]] for name in ("label", "before", "after")}
        return told.assign(**rounded, change=np.where(gain[which] > 0, "gained", "lost"))


def _away(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / len(values)
