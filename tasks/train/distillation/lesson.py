"""What a student learns from: labels where there are any, and what teachers answer about every image."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch

from tasks.errors import ConfigurationError
from tasks.teachers import Teachers
from tasks.train.distillation.config import NOBODY, Distillation
from tasks.train.distillation.teachers import answers, seen
from tasks.train.targets import is_multi_label
from tasks.train.task import Task, targets_of


@dataclass(frozen=True)
class Lesson:
    """Images that have labels first, then their augmented views, view by view, then images of the pool.

    Attributes:
        labels: of the first ``M`` of ``N``: int64 ``[M]``, or zeros and ones float32 ``[M, C]``.
        answers: of the teachers, probabilities at the temperature: float32 ``[N, C]``.
        temperature, weight: see `Distillation`.
    """

    labels: torch.Tensor
    answers: torch.Tensor
    temperature: float
    weight: float

    @property
    def multi_label(self) -> bool:
        return is_multi_label(self.labels)

    @property
    def share(self) -> float:
        """Of the images, those that have a label."""
        return len(self.labels) / len(self.answers)


def lesson_of(section: Distillation, task: Task) -> Lesson:
    """What a task's teachers teach.

    Raises:
        ConfigurationError: no teacher is named, or one does not suit the data.
    """
    teachers = teachers_of(task)
    given = [answers(teachers, task.dataset, rows, section.temperature, view) for rows, view in parts(section, task)]
    labels = targets_of(task.dataset, task.rows("train"))
    views = 1 + len(task.features.variants)
    labels = labels.repeat(views, *(1,) * (labels.ndim - 1))
    return Lesson(labels, torch.cat(given), section.temperature, section.weight)


def parts(section: Distillation, task: Task) -> list[tuple[pd.DataFrame, int]]:
    """Rows of the manifest, and which view of them, in the order of a lesson."""
    views = range(1 + len(task.features.variants))
    labelled = [(task.rows("train"), view) for view in views]
    return [*labelled, (task.rows("pool"), 0)] if section.pool else labelled


def shown_to(section: Distillation, task: Task) -> list[torch.Tensor]:
    """What each teacher's backbone sees in the images of a lesson: float32 ``[N, width]``."""
    each = teachers_of(task).features
    return [torch.cat([seen(features, rows, view) for rows, view in parts(section, task)]) for features in each]


def teachers_of(task: Task) -> Teachers:
    """Of a task.

    Raises:
        ConfigurationError: there are none.
    """
    if task.teachers is None:
        raise ConfigurationError(NOBODY)
    return task.teachers
