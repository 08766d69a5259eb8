"""A hidden layer that several tasks share, on cached features."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import pandas as pd
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from tasks.progress import progress
from tasks.target import Target
from tasks.train.fusion.parts import Part
from tasks.train.heads import Head
from tasks.train.joint.config import TasksConfig
from tasks.train.joint.criterion import Joint, pack, places_in, weighing_of
from tasks.train.solvers import Fit
from tasks.train.targets import best_row, measured, merit_column
from tasks.train.task import PARTIAL, Task, read_features


class Top(nn.Module):
    """What stands on the hidden layer of a head: from its activations ``[N, hidden]`` to the head's answers."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.head.layers, nn.Sequential)
        return self.head.answers(self.head.layers[2](hidden))


def fit_mlp_jointly(
    task: Task, section: TasksConfig, *, hidden: int, epochs: int, learning_rate: float, batch_size: int,
    weight_decay: float, label_smoothing: float, balance: str, parts: Sequence[Part] = (),
) -> Fit:  # fmt: skip
    """As `tasks.train.solvers.fit_mlp`, of all tasks of the dataset at once: they share the hidden layer, of which each
    head holds a copy in the end. The epoch is kept that is best for the leading task."""
    torch.manual_seed(task.seed)
    features, packed = shared(task)
    targets = task.dataset.targets
    places = places_in(packed, targets, balance == "weights")
    heads = [
        Head.suited_to(place.labels(packed)[1], features.shape[1], len(target.classes), hidden, parts=parts)
        for place, target in zip(places, targets, strict=True)
    ]
    leading, *others = (head.standardise_like(features) for head in heads)
    hidden_layer, activation = _bottom(leading)
    for head in others:
        assert isinstance(head.layers, nn.Sequential)
        head.layers[0] = hidden_layer
    tops = [Top(head) for head in heads]
    joint = Joint(places, tops[1:], weighing_of(section, [each.name for each in targets]), label_smoothing)
    inputs, held_out = leading.standardised(features), list(_held_out(task, leading))
    learned = [*dict.fromkeys([*leading.parameters(), *joint.parameters()])]
    optimiser = torch.optim.AdamW(learned, lr=learning_rate, weight_decay=weight_decay, fused=True)
    schedule = CosineAnnealingLR(optimiser, epochs)
    generator = torch.Generator().manual_seed(task.seed)
    rows: list[dict[str, float]] = []
    best, kept = -1, heads
    with progress("train", total=epochs, unit="epoch") as advance:
        for epoch in range(1, epochs + 1):
            total = 0.0
            for chosen in torch.randperm(len(packed), generator=generator).split(batch_size):
                activations = activation(hidden_layer(inputs[chosen]))
                loss = joint(tops[0](activations), packed[chosen], activations)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += float(loss.detach()) * len(chosen)
            schedule.step()
            rows.append(
                {"step": epoch, "train/loss": total / len(packed)} | _measured(heads, held_out, targets) | joint.told()
            )
            if best != (best := best_row(pd.DataFrame(rows))):
                kept = copy.deepcopy(heads)
            advance(1)
    first, *further = (copy.deepcopy(head).eval() for head in kept)  # each with its own hidden layer
    named = {target.name: head for target, head in zip(targets[1:], further, strict=True)}
    return Fit(first, rows[best][merit_column(rows[best])], {"epoch": best + 1}, pd.DataFrame(rows), further=named)


def _bottom(head: Head) -> tuple[nn.Module, nn.Module]:
    assert isinstance(head.layers, nn.Sequential)
    return head.layers[0], head.layers[1]


def shared(task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """Features ``[N, width]`` of all images that any task is learned from, and their packed targets ``[N, P]``;
    augmented views, where there are any, follow the images."""
    rows = task.rows("train", PARTIAL)
    views = 1 + len(task.features.variants)
    return read_features(task.features, rows, augmented=views > 1), pack(task.dataset, rows).repeat(views, 1)


def _held_out(task: Task, head: Head) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Of each task, inputs of the hidden layer and targets of the images that choices are made on."""
    for each in (task, *(task.on(target) for target in task.dataset.further)):
        features, targets = each.validation
        yield head.standardised(features), targets


@torch.inference_mode()
def _measured(
    heads: Sequence[Head], held_out: Sequence[tuple[torch.Tensor, torch.Tensor]], targets: Sequence[Target]
) -> dict[str, float]:
    row: dict[str, float] = {}
    for place, (head, (inputs, wanted), target) in enumerate(zip(heads, held_out, targets, strict=True)):
        name = f"validation/{target.name}" if place else "validation"
        row |= measured(name, head.answers(head.layers(inputs)), wanted)
    return row
