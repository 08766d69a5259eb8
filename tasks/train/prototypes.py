"""Class means as heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import normalize

from tasks.train.calibration import temperature
from tasks.train.fusion.parts import Part
from tasks.train.heads import NEVER, Cosine, Head
from tasks.train.solvers import Fit
from tasks.train.targets import Labelled, is_multi_label, measured


def fit_prototypes(
    train: Labelled, validation: Labelled, classes: int, distance: str = "auto", parts: Sequence[Part] = (),
    calibrate: bool = True,
) -> Fit:  # fmt: skip
    """A head that answers the class of the nearest mean.

    Args:
        distance: ``euclidean``, ``cosine``, or ``auto``, which takes the better one on validation.
        calibrate: whether logits are divided by the temperature that suits validation best.
    """
    asked = ("euclidean", "cosine") if distance == "auto" else (distance,)
    rows, heads = [], []
    for step, kind in enumerate(asked):
        head = (euclidean if kind == "euclidean" else cosine)(train, classes, parts)
        with torch.inference_mode():
            logits = head(validation[0])
            if calibrate:
                head.temperature.fill_(temperature(logits, validation[1]))
            row = measured("train", head(train[0]), train[1])
            rows.append({"step": step} | row | measured("validation", head(validation[0]), validation[1]))
        heads.append(head)
    curves = pd.DataFrame(rows)
    best = int(curves["validation/accuracy"].argmax())
    chosen = {"cosine": float(asked[best] == "cosine")}
    return Fit(heads[best].eval(), rows[best]["validation/accuracy"], chosen, curves)


def euclidean(train: Labelled, classes: int, parts: Sequence[Part] = ()) -> Head:
    """Logits -‖x - μ‖²/d, up to what all classes share: a linear layer with weights 2μ/d and biases -‖μ‖²/d."""
    head, means = _means(train, classes, "linear", parts)
    assert isinstance(head.layers, nn.Linear)
    head.layers.weight.data = 2 * means / head.width
    head.layers.bias.data = -means.square().sum(1) / head.width
    head.layers.bias.data[train[1].bincount(minlength=classes) == 0] = NEVER
    return head


def cosine(train: Labelled, classes: int, parts: Sequence[Part] = ()) -> Head:
    """Logits are the cosines between features and the mean of a class's features, each of length one."""
    head, means = _means(train, classes, "cosine", parts)
    assert isinstance(head.layers, Cosine)
    head.layers.weight.data = means
    return head


def _means(
    train: Labelled, classes: int, kind: Literal["linear", "cosine"], parts: Sequence[Part]
) -> tuple[Head, torch.Tensor]:
    features, labels = train
    assert not is_multi_label(labels)
    head = Head(features.shape[1], classes, kind=kind, parts=parts).standardise_like(features)
    x = head.standardised(features)
    x = normalize(x, dim=1) if kind == "cosine" else x
    counts = labels.bincount(minlength=classes).clamp(min=1)
    return head, torch.zeros(classes, head.width).index_add_(0, labels, x) / counts[:, None]
