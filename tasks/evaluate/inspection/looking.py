"""A candidate as it looks at pixels, and the images that it is looked at with."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from tasks.extract.engine import Engine
from tasks.extract.precision import choose_device
from tasks.model.eyes import eyes_of
from tasks.preprocess.recipe import Recipe, load_pixels
from tasks.records import Candidate, Dataset, FeatureSet, Preprocessed
from tasks.train.heads import Head, predict_probabilities
from tasks.workspace import Workspace

SECONDS, PATIENCE = 5.0, 40.0
"""That the passes of a part of an inspection may take by default, and at most."""

LEAST = 8
"""Images below which nothing is measured by default."""


@dataclass(frozen=True)
class Looker:
    """A candidate's network and head. It looks at the plain view of an image, also where it is served with ten.

    Of several networks, each with a size and crop of its own, each looks at its part of one square that is large enough
    for all. That costs a second scaling, and what one of them would have seen beyond the square of the first.

    Attributes:
        recipe: of that view, or square.
        beside: further networks, whose features follow.
    """

    engine: Engine
    head: Head
    recipe: Recipe
    beside: tuple[Engine, ...] = ()

    @classmethod
    def load(
        cls, dataset: Dataset, preprocessed: Preprocessed, features: FeatureSet, candidate: Candidate,
        workspace: Workspace,
    ) -> Looker:  # fmt: skip
        """Build it, on the device and in the precision that features were computed on and in.

        Raises:
            WeightsError: the backbone's weights are no longer those that the features were computed with.
        """
        device = choose_device(features.extraction.get("device", "auto"))
        engines = [
            Engine(
                eye.backbone(), replace(eye.recipe, views="one"), device, getattr(torch, eye.precision), compile="never"
            )
            for eye in eyes_of(features, preprocessed, dataset.limits, workspace)
        ]
        first, *beside = engines
        recipe = first.recipe
        if beside:
            side = max(math.ceil(each.recipe.size / each.recipe.crop) for each in engines)
            recipe = replace(recipe, size=side, crop=1.0)
        return cls(first, Head.load(candidate.head), recipe, tuple(beside))

    @property
    def engines(self) -> tuple[Engine, ...]:
        """One for each network."""
        return (self.engine, *self.beside)

    def see(self, dataset: Dataset, rows: pd.DataFrame) -> torch.Tensor:
        """The pixels of images: uint8 ``[N, 3, S, S]``."""
        return load_pixels([dataset.image(content) for content in rows["hash"]], self.recipe, "inspect")

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features float32 ``[N, width]`` of pixels ``[N, 3, S, S]``."""
        return torch.cat([self._features(engine, pixels) for engine in self.engines], dim=1)

    def part(self, engine: Engine, pixels: torch.Tensor) -> torch.Tensor:
        """What one of the networks sees of pixels ``[N, 3, S, S]``."""
        return engine.recipe.fitted(pixels) if self.beside else pixels

    def _features(self, engine: Engine, pixels: torch.Tensor) -> torch.Tensor:
        batches = self.part(engine, pixels).split(engine.batch)
        return torch.cat([engine.forward(batch.to(engine.device)).cpu() for batch in batches])

    def probabilities(self, pixels: torch.Tensor) -> torch.Tensor:
        """Probabilities float32 ``[N, C]`` of pixels ``[N, 3, S, S]``."""
        return predict_probabilities(self.head, self.features(pixels))

    @cached_property
    def pace(self) -> float:
        """Seconds that an image takes through the network."""
        noise = torch.randint(0, 256, (LEAST, 3, self.recipe.size, self.recipe.size), dtype=torch.uint8)
        self.features(noise)  # the first pass prepares more than it computes
        began = time.perf_counter()
        self.features(noise)
        return (time.perf_counter() - began) / LEAST

    def affordable(self, passes: int, most: int) -> int:
        """How many images to measure with by default: ``most``, or as many as this machine passes through in `SECONDS`,
        but not fewer than `LEAST`; 0 where these would take more than `PATIENCE`.

        Args:
            passes: of the network for each image.
        """
        each = passes * self.pace
        if LEAST * each > PATIENCE:
            return 0
        return min(most, max(LEAST, int(SECONDS / each)))


def draw(rows: pd.DataFrame, count: int, seed: int) -> np.ndarray:
    """Positions of ``count`` rows of a manifest, in their order: drawn by a seed, each label's share, and that of small
    and of large numbers, as in all rows."""
    order = np.random.default_rng(seed).permutation(len(rows))
    numbers = pd.api.types.is_float_dtype(rows["label"])
    labels = (rows["label"] if numbers else rows["label"].map(str)).to_numpy()[order]
    by_label = order[np.argsort(labels, kind="stable")]
    count = min(count, len(rows))
    places = ((np.arange(count) + 0.5) * len(rows) / max(1, count)).astype(int)
    return np.sort(by_label[places])


def goodness(targets: np.ndarray, probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """How right each answer is, 0 to 1, float ``[N]``: whether it is the label or, where an image may have several, F1
    of the labels that are given (1 where there are none and none is given)."""
    if targets.ndim == 1:
        return (probabilities.argmax(1) == targets).astype(np.float64)
    given, there = probabilities >= threshold, targets > 0
    named = given.sum(1) + there.sum(1)
    return np.where(named > 0, 2 * (given & there).sum(1) / np.maximum(named, 1), 1.0)
