"""Votes of the training images that are nearest by their features."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch.nn.functional import normalize

from tasks.train.fusion.parts import Part
from tasks.train.heads import Head, Neighbours
from tasks.train.solvers import Fit
from tasks.train.targets import Labelled, indicators, is_multi_label, measured, merit_name

COUNTS = (1, 2, 5, 10, 20, 50, 100, 200)
"""Numbers of neighbours that are tried."""


def fit_neighbours(
    train: Labelled, validation: Labelled, classes: int, k: int | None = None, parts: Sequence[Part] = ()
) -> Fit:
    """A head that holds the training images; how many of them vote is chosen on validation where ``k`` is None."""
    (features, targets), (inputs, wanted) = train, validation
    several = is_multi_label(targets)
    head = Head(
        features.shape[1], classes, kind="neighbours", examples=len(features), multi_label=several, parts=parts
    ).standardise_like(features)  # fmt: skip
    assert isinstance(head.layers, Neighbours)
    head.layers.examples.copy_(normalize(head.standardised(features), dim=1))
    head.layers.targets.copy_(indicators(targets, classes))
    counts = [k] if k else [count for count in COUNTS if count <= len(features)]
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
