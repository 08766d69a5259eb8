"""What a student learns from whose backbone is tuned: images, with and without labels, and what its teachers make of
them."""

from __future__ import annotations

import torch
from torch import nn

from tasks.preprocess.pictures import Pictures, Views
from tasks.train.distillation.config import Distillation
from tasks.train.distillation.lesson import Lesson, lesson_of, parts, shown_to
from tasks.train.distillation.losses import divergence, relations
from tasks.train.targets import loss_of
from tasks.train.task import Task
from tasks.train.tuning.network import Material


def taught(section: Distillation, task: Task, smoothing: float, strength: float) -> Material:
    """The images of a lesson, by their numbers.

    Args:
        smoothing, strength: of labels and relations, see `Taught`.
    """
    lesson = lesson_of(section, task)
    criterion = Taught(lesson, smoothing, shown_to(section, task) if strength else [], strength)
    return Material(task.once("lesson", lambda: _pictures(section, task)), torch.arange(len(lesson.answers)), criterion)


def _pictures(section: Distillation, task: Task) -> Pictures | Views:
    shown = [(path, view) for rows, view in parts(section, task) for path in task.paths(rows)]
    paths, views = [path for path, _ in shown], [view for _, view in shown]
    return Views(paths, task.recipe, views) if any(views) else Pictures(paths, task.recipe)


class Taught(nn.Module):
    """What a batch of a lesson's images costs, by their numbers int64 ``[B]``: on average over all batches,

        (1 - weight) · cross-entropy of those with labels + weight · T²·KL of all + strength · relations

    With several labels an image, both are means over the classes. What is known of the images stays in main memory.

    Args:
        smoothing: of labels, see `tasks.train.targets.loss_of`.
        hidden: features of all images by each teacher, float32 ``[N, width]``, for `relations`.
    """

    def __init__(self, lesson: Lesson, smoothing: float, hidden: list[torch.Tensor], strength: float) -> None:
        super().__init__()
        self.lesson, self.hidden, self.strength = lesson, hidden, strength
        self.of_labels = loss_of("labels" if lesson.multi_label else "class", smoothing)

    def forward(
        self, logits: torch.Tensor, numbers: torch.Tensor, features: torch.Tensor, over: float = 0.0
    ) -> torch.Tensor:
        numbers = numbers.cpu()
        with torch.autocast(logits.device.type, enabled=False):
            loss = self._by_answers(logits.float(), numbers)
            for hidden in self.hidden:
                theirs = hidden[numbers].to(features.device)
                loss = loss + self.strength / len(self.hidden) * relations(features.float(), theirs)
        return loss

    def _by_answers(self, logits: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        lesson = self.lesson
        given = lesson.answers[numbers].to(logits.device)
        far = divergence(logits, given, lesson.temperature, lesson.multi_label).mean()
        loss = lesson.weight * (far / logits.shape[1] if lesson.multi_label else far)
        known = numbers < len(lesson.labels)
        if lesson.weight == 1 or not known.any():
            return loss
        labels = lesson.labels[numbers[known]].to(logits.device)
        # A batch with more labels than others counts for more: else a few labels would count as much as many.
        often = float(known.float().mean()) / lesson.share
        return loss + (1 - lesson.weight) * often * self.of_labels(logits[known.to(logits.device)], labels)
