"""Nearest neighbours: training images vote by their features."""

from __future__ import annotations

from typing import Literal

import pandas as pd
import torch
from pydantic import Field
from torch.nn.functional import normalize

from tasks.train.heads import Head, Neighbours
from tasks.train.method import Method
from tasks.train.solvers import Fit
from tasks.train.targets import indicators, is_multi_label, measured, merit_name
from tasks.train.task import Task

COUNTS = (1, 2, 5, 10, 20, 50, 100, 200)
"""Numbers of neighbours that are tried."""


class KNearest(Method):
    """Weighted votes of the k most similar training images; k is chosen on validation. Nothing is trained."""

    method: Literal["knn"] = "knn"
    k: int | None = Field(default=None, ge=1)
    """Neighbours that vote; by default the best on validation."""

    def fit(self, task: Task) -> Fit:
        (features, targets), (inputs, wanted) = task.train, task.validation
        several = is_multi_label(targets)
        head = Head(
            features.shape[1], task.classes, kind="neighbours", examples=len(features), multi_label=several
        ).standardise_like(features)  # fmt: skip
        assert isinstance(head.layers, Neighbours)
        head.layers.examples.copy_(normalize(head.standardised(features), dim=1))
        head.layers.targets.copy_(indicators(targets, task.classes))
        counts = [self.k] if self.k else [count for count in COUNTS if count <= len(features)]
        with torch.inference_mode():
            votes = head.layers.votes(head.standardised(inputs), counts)
            rows = [
                {"step": step, "k": k} | measured("validation", logits, wanted)
                for step, (k, logits) in enumerate(zip(counts, votes, strict=True))
            ]
        curves = pd.DataFrame(rows)
        merit = f"validation/{merit_name(several)}"
        best = int(curves[merit].argmax())
        head.layers.count.fill_(counts[best])
        return Fit(head.eval(), rows[best][merit], {"k": float(counts[best])}, curves)
