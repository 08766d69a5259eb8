"""Numbers that are likely wrong, for a person to look at.

A ridge regression tells each image's number without having learned from it. A number is doubted where it lies so far
from that, in units of the usual error, that a tenth of those that are doubted at most would be right if errors were
Gaussian (Benjamini & Hochberg 1995, "Controlling the false discovery rate"): the more images, the farther.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.stats import false_discovery_control, norm

from tasks.errors import ConfigurationError
from tasks.ingest.contradictions import SUSPECTS
from tasks.ingest.relabel import label_text
from tasks.model.told import REACH
from tasks.train.folds import Parts, parts_of
from tasks.train.least_squares import STRENGTHS
from tasks.train.ridge import ridge_path
from tasks.wording import quantity

FOLDS = 5

MOST = 20_000
"""Images that a line is fitted to at most: a minute, whatever the set."""

FALSE = 0.1
"""Share of the doubted numbers that may be right."""

SUREST = 0.9999
"""The score of a number at most: 1 is for what cannot be right."""

EXACT = 1e-6
"""Of the largest number: errors below it are float32's own."""

NOTED, FEWEST = 0.01, 3
"""Share of the numbers, and how many, from which on doubts are worth a line: one or two are unusual images."""


@dataclass(frozen=True)
class NumberDoubts:
    """Which numbers are doubted, of N images.

    Attributes:
        told: by lines that have not learned from the image, float64 ``[N]``; NaN where there is none.
        spread: what nine of ten errors lie within, in units of what nine of ten of a Gaussian do: unlike the standard
            deviation, it hardly grows with a few wrong numbers, and it does with errors that have long tails.
        away: how many spreads the number lies above what is told, float64 ``[N]``, 0 where nothing is.
        score: 1 less the share of right ones among all numbers that lie as far off, float64 ``[N]``, 0 to `SUREST`.
        doubted: bool ``[N]``.
    """

    told: np.ndarray
    spread: float
    away: np.ndarray
    score: np.ndarray
    doubted: np.ndarray

    @property
    def is_noteworthy(self) -> bool:
        """Whether there are so many that they may change a figure."""
        return bool(self.doubted.sum() >= max(FEWEST, NOTED * len(self.doubted)))


def doubt_numbers(
    features: torch.Tensor, numbers: torch.Tensor, groups: np.ndarray | None = None, seed: int = 0
) -> NumberDoubts | None:
    """Which numbers are doubted; None where nothing can be left out, or all are told to the last digit.

    Lines are fitted twice, the second time without what the first ones doubted, which drew them to itself. Where all
    else is told to the last digit then, what was doubted at first stands.

    Args:
        features: float32 ``[N, d]``, standardised; numbers: float32 ``[N]``.
        groups: of each image int64 ``[N]``, where images come in groups, which are left out together.
    """
    try:
        parts = parts_of(numbers, 0, FOLDS, 1, seed, groups)
    except ConfigurationError:
        return None
    believed = np.ones(len(numbers), bool)
    doubts = None
    for _ in range(2):
        again = _doubted(_held_out(features, numbers, parts, believed, seed), numbers.double().numpy())
        if again is None:  # those that are believed are told to the last digit: nothing is left to measure doubts by
            break
        doubts = again
        if not doubts.doubted.any():
            break
        believed = ~doubts.doubted
    return doubts


def _held_out(
    features: torch.Tensor, numbers: torch.Tensor, parts: Parts, believed: np.ndarray, seed: int
) -> np.ndarray:
    """What each image is told by lines that have not learned from it, float64 ``[N]``; of the strengths, that by which
    the numbers that are believed are told best."""
    random = np.random.default_rng(seed)
    told = torch.full((len(STRENGTHS), len(numbers)), torch.nan)
    for kept, left in parts:
        some = random.permutation(kept[believed[kept]])[:MOST]
        if len(some):
            lines = ridge_path(features[some], numbers[some, None], STRENGTHS)
            told[:, left] = torch.stack([(features[left] @ weight.T + bias)[:, 0] for weight, bias in lines])
    squares = (told - numbers)[:, torch.tensor(believed)].double().square().nanmean(1)
    return told[int(squares.nan_to_num(torch.inf).argmin())].double().numpy()


def _doubted(told: np.ndarray, numbers: np.ndarray) -> NumberDoubts | None:
    errors = numbers - told
    known = ~np.isnan(errors)
    spread = float(np.quantile(np.abs(errors[known]), 0.9)) / REACH if known.any() else 0.0
    if spread <= EXACT * float(np.abs(numbers).max()):
        return None
    away = np.where(known, errors, 0.0) / spread
    adjusted = false_discovery_control(2 * norm.sf(np.abs(away)))
    return NumberDoubts(told, spread, away, np.minimum(1 - adjusted, SUREST), adjusted <= FALSE)


def suspect_numbers(rows: pd.DataFrame, doubts: NumberDoubts) -> pd.DataFrame:
    """The numbers of rows of a manifest that are doubted, the surest first; the columns are `SUSPECTS`."""
    places = np.flatnonzero(doubts.doubted)
    places = places[np.argsort(-np.abs(doubts.away[places]), kind="stable")]
    table = rows.iloc[places][["path", "hash", "split"]].reset_index(drop=True)
    table["label"] = [label_text(float(number)) for number in rows["label"].iloc[places]]
    table["suggested"] = [label_text(float(f"{number:.4g}")) for number in doubts.told[places]]
    reach = quantity(REACH * doubts.spread)
    table["why"] = [
        f"{quantity(number)} ± {reach} by a model that has not learned from it" for number in doubts.told[places]
    ]
    return table.assign(score=doubts.score[places])[SUSPECTS]


def noted_numbers(doubts: NumberDoubts) -> list[str]:
    """A line where many numbers are doubted."""
    if not doubts.is_noteworthy:
        return []
    least = float(np.abs(doubts.away[doubts.doubted]).min())
    count, images = doubts.doubted.sum(), len(doubts.doubted)
    return [
        f"{count:,} of {images:,} numbers may be wrong: they are at least {least:.1f} times the usual error from what "
        f"their images tell, where at most {FALSE:.0%} of such are right by chance; `headstart data review` lists them"
    ]
