"""A linear head that learns from labels and teachers, on cached features."""

from __future__ import annotations

import torch

from tasks.train.distillation.config import Distillation
from tasks.train.distillation.lesson import Lesson, lesson_of
from tasks.train.distillation.losses import divergence
from tasks.train.heads import Head, as_probabilities
from tasks.train.logistic import Regression, binary, multinomial
from tasks.train.solvers import Fit, solve_path, standardised
from tasks.train.task import Task


def fit_student(section: Distillation, task: Task) -> Fit:
    """The head that minimises, over the images of a lesson,

        (1 - weight) · mean cross-entropy of those with labels + weight · mean T²·KL of all + l2/2 · ‖W‖²

    for a path of L2 strengths, of which validation picks one. Each is a convex problem, solved as `fit_linear` does
    without teachers; with several labels an image, both losses are sums over the classes.
    """
    lesson = lesson_of(section, task)
    features, labels = task.train
    images = torch.cat([features, task.unlabelled] if section.pool else [features])
    head = Head(images.shape[1], task.classes, multi_label=lesson.multi_label, parts=task.counted)
    head.standardise_like(images)
    images.sub_(head.mean).div_(head.std)
    regression = Regression(images, labels, task.classes, errors=Errors(lesson))
    return solve_path(head, regression, (images[: len(labels)], labels), standardised(head, task.validation))


class Errors:
    """What the logits of images cost, and how that changes with them, as `Regression` asks for it."""

    def __init__(self, lesson: Lesson) -> None:
        self.lesson = lesson
        self.error = binary if lesson.multi_label else multinomial

    def __call__(self, logits: torch.Tensor, at: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses ``[A, n]`` of logits ``[A, C, n]`` of the images ``at``, and their derivatives ``[A, C, n]``."""
        lesson = self.lesson
        taught, heat = lesson.answers[at].T, lesson.temperature
        misses = lesson.weight * divergence(logits, taught, heat, lesson.multi_label)
        residuals = lesson.weight * heat * (as_probabilities(logits / heat, lesson.multi_label) - taught)
        labels = lesson.labels[at]
        if count := len(labels):
            wrong, wrongly = self.error(logits[:, :, :count], labels)
            often = (1 - lesson.weight) / lesson.share
            misses[:, :count] += often * wrong
            residuals[:, :, :count] += often * wrongly
        return misses, residuals
