"""What a batch costs of which several things are to be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from tasks.records import Dataset
from tasks.target import Target
from tasks.train.joint.config import TasksConfig
from tasks.train.joint.weighing import Fixed, GradNorm, Uncertainty, Weighing
from tasks.train.kinds import Answer
from tasks.train.targets import class_weights, loss_of, surprise
from tasks.train.task import targets_of


@dataclass(frozen=True)
class Place:
    """A task, and where its labels stand in packed targets.

    Attributes:
        columns: one of a class or a number, one for each class of several labels.
        share: of the images, those that have a label of it.
        spread: standard deviation of a number.
        weights: how much an image of each class counts, where they do not count alike.
    """

    name: str
    kind: Answer
    columns: slice
    share: float
    spread: float = 1.0
    weights: torch.Tensor | None = None

    def labels(self, packed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Which rows of packed targets ``[N, P]`` have a label, bool ``[N]``, and these labels."""
        mine = packed[:, self.columns]
        known = ~mine[:, 0].isnan()
        labels = mine[known]
        if self.kind == "labels":
            return known, labels
        return known, labels[:, 0] if self.kind == "number" else labels[:, 0].long()


def pack(dataset: Dataset, rows: pd.DataFrame) -> torch.Tensor:
    """The labels of all tasks of rows of the manifest, side by side: float32 ``[N, P]``, NaN where there is none."""
    parts = []
    for target in dataset.targets:
        known = rows[target.column].notna().to_numpy()
        labels = targets_of(dataset, rows[known], target).float()
        part = torch.full((len(rows), *labels.shape[1:]), torch.nan)
        part[torch.tensor(known)] = labels  # a copy: pandas' own array may not be written to, which torch warns of
        parts.append(part if part.ndim > 1 else part[:, None])
    return torch.cat(parts, 1)


def places_in(packed: torch.Tensor, targets: Sequence[Target], balanced: bool = False) -> list[Place]:
    """Where the labels of each task stand, and what is known of them.

    Args:
        balanced: whether all classes count alike, of tasks that tell a class.
    """
    places, begin = [], 0
    for target in targets:
        columns = slice(begin, begin := begin + (len(target.classes) if target.kind == "labels" else 1))
        known, labels = Place(target.name, target.kind, columns, 1.0).labels(packed)
        spread = float(labels.std(correction=0)) if target.kind == "number" else 1.0
        weights = class_weights(labels, len(target.classes)) if balanced and target.kind == "class" else None
        share = float(known.float().mean())
        places.append(Place(target.name, target.kind, columns, share, spread or 1.0, weights))
    return places


def weighing_of(section: TasksConfig, names: Sequence[str]) -> Weighing:
    """As the section asks for."""
    if section.weights == "uncertainty":
        return Uncertainty(len(names))
    if section.weights == "gradnorm":
        return GradNorm(len(names), section.alpha)
    given: Mapping[str, float] = {} if section.weights == "equal" else section.weights
    return Fixed([given.get(name, 1.0) for name in names])


class Joint(nn.Module):
    """The weighed sum of the losses of several tasks, each the mean over the images that have a label of it.

    Of a number the loss is half the squared error, in units of its deviation, as the weighings want it; how far off it
    may be is learned beside it, by its likelihood with the mean held still.

    Args:
        places: of the tasks, the leading one first.
        heads: of the others: from shared features ``[N, width]`` to outputs.
        smoothing: of labels, see `tasks.train.targets.loss_of`.
    """

    def __init__(
        self, places: Sequence[Place], heads: Sequence[nn.Module], weighing: Weighing, smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.places, self.heads, self.weighing, self.smoothing = list(places), nn.ModuleList(heads), weighing, smoothing

    def forward(
        self, outputs: torch.Tensor, targets: torch.Tensor, features: torch.Tensor, over: float = 0.0
    ) -> torch.Tensor:
        with torch.autocast(features.device.type, enabled=False):
            told = [outputs.float(), *(head(features.float()) for head in self.heads)]
            pairs = [self._cost(place, each, targets) for place, each in zip(self.places, told, strict=True)]
            losses, beside = map(torch.stack, zip(*pairs, strict=True))
            total: torch.Tensor = self.weighing(losses, features) + beside.sum()
        return total

    def _cost(self, place: Place, outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of a task, and what its spread costs."""
        known, labels = place.labels(targets)
        nothing = outputs[:0].sum()  # so that every parameter has a gradient, also where no image has a label
        if not len(labels):
            return nothing, nothing
        # A batch with more labels than others counts for more: else a few labels would count as much as many.
        often, outputs = len(labels) / len(known) / place.share, outputs[known]
        if place.kind != "number":
            weights = None if place.weights is None else place.weights.to(outputs.device)
            return often * loss_of(place.kind, self.smoothing, weights)(outputs, labels), nothing
        means, variances = outputs.unbind(1)
        squares = ((means - labels) / place.spread).square()
        return often * squares.mean() / 2, often * surprise(torch.stack([means.detach(), variances], 1), labels).mean()

    def told(self) -> dict[str, float]:
        """The weights as they are, as entries of a row of curves."""
        weights = self.weighing.weights.tolist()
        return {f"weight/{place.name}": weight for place, weight in zip(self.places, weights, strict=True)}
