"""Whether a batch that is predicted is unlike what its model is used to."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tasks.evaluate.shift.priors import estimate_priors
from tasks.evaluate.shift.two_samples import Shift, compare_samples
from tasks.model.classifier import ImageClassifier
from tasks.model.decisions import THRESHOLD
from tasks.model.reference import embed
from tasks.workspace import write_whole

FEWEST, MOST = 50, 500
"""Images below which nothing is said of a batch, and of which at most it is told, drawn from all."""

NAMED = 3
"""Classes that the line names."""


class Batch:
    """What a classifier makes of a batch: a sample of the embeddings, and how often each class was the answer.

    A run that goes on where another one was killed knows only of the images that it predicts itself.
    """

    def __init__(self, classifier: ImageClassifier, seed: int = 0) -> None:
        self.classifier = classifier
        self.images = 0
        self.answers = np.zeros((len(classifier.classes), 2) if classifier.multi_label else len(classifier.classes))
        self._embeddings: list[np.ndarray] = []
        self._random = np.random.default_rng(seed)

    def add(self, features: torch.Tensor, probabilities: torch.Tensor) -> None:
        """Take note of features ``[n, width]`` and probabilities ``[n, C]``, unless the answers are numbers."""
        for embedding in embed(self.classifier.head, features.cpu()):
            self._sample(embedding)
        if self.classifier.number:
            return
        found = probabilities.cpu().numpy()
        if self.classifier.multi_label:
            given = (found >= THRESHOLD).sum(0)
            self.answers += np.stack([len(found) - given, given], axis=1)
        else:
            self.answers += np.bincount(found.argmax(1), minlength=len(self.answers))

    def _sample(self, embedding: np.ndarray) -> None:
        """Vitter's reservoir (1985, algorithm R): each image of the batch is kept with the same chance."""
        self.images += 1
        if len(self._embeddings) < MOST:
            self._embeddings.append(embedding)
        elif (place := int(self._random.integers(self.images))) < MOST:
            self._embeddings[place] = embedding

    def shift(self) -> Shift | None:
        """Against the model's reference; None where it has none, or either is too small to say anything."""
        reference = self.classifier.reference
        if reference is None or min(self.images, len(reference.embeddings)) < FEWEST:
            return None
        # Both are compared as exactly as the reference is kept.
        sample = np.stack(self._embeddings).astype(np.float16).astype(np.float32)
        return compare_samples(reference.embeddings, sample)

    def report(self, target: Path) -> str | None:
        """Write a JSON beside the predictions if the batch is unlike the reference; returns the line to be told."""
        path = target.with_name(f"{target.name}.shift.json")
        shift = self.shift()
        if shift is None or not shift.is_unlike:
            path.unlink(missing_ok=True)  # of an earlier batch
            return None
        assert self.classifier.reference is not None
        said: dict[str, Any] = asdict(shift) | {"batch": self.images, "reference": self.classifier.reference.split}
        told = (
            f"these {self.images:,} images are unlike those that the model was measured on (effect {shift.effect:.2f}, "
            f"p {shift.p:.2g}): its figures may not hold; "
        )
        if not self.classifier.number:
            priors = estimate_priors(self.classifier.reference.confusion, self.answers, self.classifier.classes)
            said["classes"] = priors.round(4).to_dict("records")
            told += f"classes, by estimate: {_moved(priors)}; "
        write_whole(path, json.dumps(said, indent=2, ensure_ascii=False))
        return f"{told}see {path.name}"


def _moved(priors: pd.DataFrame) -> str:
    """The classes whose share has changed most, in words."""
    moved = priors.loc[(priors["now"] - priors["before"]).abs().sort_values(ascending=False).index[:NAMED]]
    return ", ".join(f"{row['class']}: {row['before']:.0%} → {row['now']:.0%}" for row in moved.to_dict("records"))
