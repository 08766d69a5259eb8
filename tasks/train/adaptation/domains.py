"""What a head is adapted from and to, and what has learned from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from tasks.train.adaptation.criteria import density_ratios
from tasks.train.fusion.parts import Part
from tasks.train.heads import Head
from tasks.train.targets import Labelled


class Domains:
    """Labelled features of the source, some to learn from and some to choose on, and unlabelled ones of the target.

    Attributes:
        ours, theirs: heads that know the source's and the target's statistics.
        source, validation, target: what they were made from, each domain standardised by its own statistics.
        unadapted: the target, standardised by the source's.
        ratios: how much more often each validation image's like occurs in the target, before anything was adapted.
    """

    def __init__(
        self, train: Labelled, validation: Labelled, unlabelled: torch.Tensor, classes: int, parts: Sequence[Part] = ()
    ) -> None:
        self.classes = classes
        self.ours, self.theirs = (
            Head(images.shape[1], classes, parts=parts).standardise_like(images) for images in (train[0], unlabelled)
        )
        self.source, self.validation = (
            (self.ours.standardised(features), labels) for features, labels in (train, validation)
        )
        self.target, self.unadapted = (head.standardised(unlabelled) for head in (self.theirs, self.ours))
        self.ratios = density_ratios(self.source[0], self.unadapted, self.validation[0])


@dataclass(frozen=True)
class Learned:
    """A head that knows no statistics yet, its curves, and the heads of which it is the mean."""

    head: Head
    curves: pd.DataFrame
    several: tuple[Learned, ...] = ()

    @property
    def each(self) -> tuple[Learned, ...]:
        return self.several or (self,)
