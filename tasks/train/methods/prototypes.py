"""Prototypes: each class is the mean of its images' features."""

from __future__ import annotations

from typing import Literal

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import normalize

from tasks.train.calibration import temperature
from tasks.train.heads import Cosine, Head
from tasks.train.method import Method
from tasks.train.solvers import Fit
from tasks.train.targets import Labelled, is_multi_label, measured
from tasks.train.task import Task


class Prototypes(Method):
    """The nearest class mean (Snell et al. 2017, "Prototypical networks for few-shot learning"): for few images."""

    method: Literal["prototypes"] = "prototypes"
    distance: Literal["auto", "euclidean", "cosine"] = "auto"
    """`auto`: the better one on validation."""

    multi_label = False

    def fit(self, task: Task) -> Fit:
        asked = ("euclidean", "cosine") if self.distance == "auto" else (self.distance,)
        rows, heads = [], []
        for step, distance in enumerate(asked):
            head = (euclidean if distance == "euclidean" else cosine)(task.train, task.classes)
            with torch.inference_mode():
                logits = head(task.validation[0])
                head.temperature.fill_(temperature(logits, task.validation[1]))
                row = measured("train", head(task.train[0]), task.train[1])
                rows.append({"step": step} | row | measured("validation", head(task.validation[0]), task.validation[1]))
            heads.append(head)
        curves = pd.DataFrame(rows)
        best = int(curves["validation/accuracy"].argmax())
        chosen = {"cosine": float(asked[best] == "cosine")}
        return Fit(heads[best].eval(), rows[best]["validation/accuracy"], chosen, curves)


def euclidean(train: Labelled, classes: int) -> Head:
    """Logits -‖x - μ‖²/d, up to what all classes share: a linear layer with weights 2μ/d and biases -‖μ‖²/d."""
    head, means = _means(train, classes, "linear")
    assert isinstance(head.layers, nn.Linear)
    head.layers.weight.data = 2 * means / head.width
    head.layers.bias.data = -means.square().sum(1) / head.width
    return head


def cosine(train: Labelled, classes: int) -> Head:
    """Logits are the cosines between features and the mean of a class's features, each of length one."""
    head, means = _means(train, classes, "cosine")
    assert isinstance(head.layers, Cosine)
    head.layers.weight.data = means
    return head


def _means(train: Labelled, classes: int, kind: Literal["linear", "cosine"]) -> tuple[Head, torch.Tensor]:
    features, labels = train
    assert not is_multi_label(labels)
    head = Head(features.shape[1], classes, kind=kind).standardise_like(features)
    x = head.standardised(features)
    x = normalize(x, dim=1) if kind == "cosine" else x
    counts = labels.bincount(minlength=classes).clamp(min=1)
    return head, torch.zeros(classes, head.width).index_add_(0, labels, x) / counts[:, None]
