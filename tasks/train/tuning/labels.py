"""What a training through the backbone learns from, unless its method says otherwise: images and their labels."""

from __future__ import annotations

import copy

from tasks.train.heads import Head
from tasks.train.kinds import Balance
from tasks.train.least_squares import fit_number
from tasks.train.solvers import fit_linear
from tasks.train.targets import class_weights, kind_of
from tasks.train.task import Task
from tasks.train.tuning.config import TuningConfig
from tasks.train.tuning.network import Loss, Material


def labelled(method: TuningConfig, task: Task) -> Material:
    """The training images, their labels or numbers, and the loss as the method has it."""
    pictures, targets = task.pictures()
    weights = class_weights(targets, task.classes) if method.balance == "weights" else None
    return Material(pictures, targets, Loss(kind_of(targets), method.label_smoothing, weights))


def probe(method: TuningConfig, task: Task) -> Head:
    """The linear head that is solved on the frozen features."""
    if task.aim.kind == "number":
        return task.once("probe", lambda: fit_number(task.plain, task.validation)).head
    solved: Balance = "weights" if method.balance != "none" and task.aim.kind == "class" else "none"
    fit = task.once(("probe", solved), lambda: fit_linear(task.plain, task.validation, task.classes, solved))
    head: Head = fit.head
    return head


def first_head(method: TuningConfig, task: Task) -> Head:
    """A linear head, of zeros or solved on the frozen features, that knows these features' statistics."""
    if method.head == "probe":
        return copy.deepcopy(method.probe(task)).train()
    features, targets = task.plain
    head = Head.suited_to(targets, features.shape[1], task.classes).standardise_like(features)
    for parameter in head.parameters():
        parameter.data.zero_()
    return head
