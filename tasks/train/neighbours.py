"""Votes of the training images that are nearest by their features; of numbers, their means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch.nn.functional import normalize

from tasks.train.fusion.parts import Part
from tasks.train.heads import Head, Neighbours, as_examples
from tasks.train.solvers import Fit
from tasks.train.targets import Labelled, indicators, is_number, measured, merit_column

COUNTS = (1, 2, 5, 10, 20, 50, 100, 200)
"""Numbers of neighbours that are tried."""


def fit_neighbours(
    train: Labelled, validation: Labelled, classes: int, k: int | None = None, parts: Sequence[Part] = ()
) -> Fit:
    """A head that holds the training images; how many of them vote is chosen on validation where ``k`` is None."""
    (features, targets), (inputs, wanted) = train, validation
    form: dict[str, Any] = {"kind": "neighbours", "examples": len(features), "parts": parts}
    head = Head.suited_to(targets, features.shape[1], classes, **form).standardise_like(features)
    assert isinstance(head.layers, Neighbours)
    head.layers.examples.copy_(normalize(head.standardised(features), dim=1))
    numbers = is_number(targets)
    told = as_examples(head.standardised_numbers(targets)) if numbers else indicators(targets, classes)
    head.layers.targets.copy_(told)
    counts = [k] if k else [count for count in COUNTS if count <= len(features)]
    with torch.inference_mode():
        voted = head.layers.votes(head.standardised(inputs), counts)
        rows = [
            {"step": step, "k": k} | measured("validation", head.answers(votes), wanted)
            for step, (k, votes) in enumerate(zip(counts, voted, strict=True))
        ]
    curves = pd.DataFrame(rows)
    merit = merit_column(curves)
    best = int(curves[merit].argmax())
    head.layers.count.fill_(counts[best])
    return Fit(head.eval(), rows[best][merit], {"k": float(counts[best])}, curves)
