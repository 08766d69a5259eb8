"""Several tasks that are learned at once through the backbone: the images, their labels, and what they cost."""

from __future__ import annotations

import copy

import torch

from tasks.preprocess.pictures import Pictures
from tasks.train.heads import Head
from tasks.train.joint.config import TasksConfig
from tasks.train.joint.criterion import Joint, pack, places_in, weighing_of
from tasks.train.task import PARTIAL, Task
from tasks.train.tuning.config import TuningConfig
from tasks.train.tuning.labels import first_head
from tasks.train.tuning.network import Material


def joint_material(method: TuningConfig, section: TasksConfig, task: Task) -> Material:
    """All images that any task is learned from, their packed targets, and the weighed sum of the losses, which holds
    the heads of the further tasks."""
    rows = task.rows("train", PARTIAL)
    packed = pack(task.dataset, rows)
    places = places_in(packed, task.dataset.targets, method.balance == "weights")
    heads = [first_head(method, task.on(target)) for target in task.dataset.further]
    weighing = weighing_of(section, [place.name for place in places])
    pictures = task.once("joint pictures", lambda: Pictures(task.paths(rows), task.recipe))
    return Material(pictures, packed, Joint(places, heads, weighing, method.label_smoothing))


def take_statistics(criterion: object, head: Head) -> None:
    """Give the heads of further tasks the features' statistics that the leading one has."""
    if isinstance(criterion, Joint):
        for other in criterion.heads:
            assert isinstance(other, Head)
            other.mean.copy_(head.mean)
            other.std.copy_(head.std)


def further_heads(criterion: object) -> dict[str, Head]:
    """Copies on the CPU of the heads of further tasks, by their names."""
    if not isinstance(criterion, Joint):
        return {}
    names = [place.name for place in criterion.places[1:]]
    return {name: _copied(head) for name, head in zip(names, criterion.heads, strict=True) if isinstance(head, Head)}


def _copied(head: Head) -> Head:
    with torch.no_grad():
        return copy.deepcopy(head).cpu().eval()
