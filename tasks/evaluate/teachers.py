"""What teachers make of the images that a student is measured on, and whether they have learned from these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tasks.evaluate.comparison.known import manifest_of
from tasks.evaluate.report import Answers
from tasks.evaluate.scores.intervals import Interval, Sample
from tasks.evaluate.scores.metrics import areas
from tasks.groups import groups_among
from tasks.records import Dataset
from tasks.rival import Rival
from tasks.teachers import Teachers, name_of
from tasks.train.distillation.teachers import answers
from tasks.workspace import Workspace


def report_teachers(
    teachers: Teachers, found: Sequence[Answers], dataset: Dataset, workspace: Workspace
) -> tuple[dict[str, Interval], list[str]]:
    """The teachers' figure on each split, of their mean answers on the images that none of them has learned from; and
    what has to be said of it.

    A teacher that has learned from an image that its student is measured on has told it the answer: the student's
    figure is too good, then.

    Args:
        found: the student's answers on each split.
    """
    pairs = zip(teachers.names, teachers.versions, strict=True)
    learned = {name: _learned_from(version, workspace) for name, version in pairs}
    figures: dict[str, Interval] = {}
    sure = "has" if all(hashes is not None for hashes in learned.values()) else "is known to have"
    told = [_elsewhere(version) for version in teachers.versions if learned[name_of(version)] is None]
    for student in found:
        known = {name: student.rows["hash"].isin(hashes or ()).to_numpy() for name, hashes in learned.items()}
        told += _leaks(student, known)
        unknown = ~np.any(list(known.values()), axis=0)
        if unknown.any():
            name, ours, theirs = _compared(teachers, student, unknown, dataset)
            figures[f"{student.split}/teacher_{name}"] = theirs
            told.append(
                f"{student.split}: the teacher{'s' * (len(learned) > 1)} {theirs[0]:.4f}, the student {ours[0]:.4f} "
                f"({name.replace('_', ' ')}, on {unknown.sum():,} images that no teacher {sure} learned from)"
            )
    return figures, told


def _compared(
    teachers: Teachers, student: Answers, chosen: np.ndarray, dataset: Dataset
) -> tuple[str, Interval, Interval]:
    """The figure that both are judged by, on the ``chosen`` images, bool ``[N]``: name, student's, theirs."""
    theirs = answers(teachers, dataset, student.rows[chosen]).numpy()
    targets, ours = student.targets[chosen], student.probabilities[chosen]
    sample = Sample(len(targets), groups_among(student.groups, chosen))
    if dataset.multi_label:
        name = "average_precision_macro"
        one, other = (sample.linear(areas(targets.astype(bool), each)[name]) for each in (ours, theirs))
        return name, one, other
    one, other = (sample.share(each.argmax(1) == targets) for each in (ours, theirs))
    return "accuracy", one, other


def _learned_from(version: Rival, workspace: Workspace) -> set[str] | None:
    """Contents of the images that a version has learned from; None where its data is not here."""
    if (rows := manifest_of(version, workspace)) is None:
        return None
    return set(rows.loc[rows["split"].isin(version.learned_from), "hash"])


def _leaks(student: Answers, known: dict[str, np.ndarray]) -> Iterator[str]:
    for name, those in known.items():
        if count := int(those.sum()):
            yield (
                f"{student.split}: {name}, a teacher, has learned from {count:,} of its {student.size}, so the "
                "student's figures are too good: split both datasets by the same rule, or name another teacher"
            )


def _elsewhere(teacher: Rival) -> str:
    hint = f"its data is not in this workspace; `headstart data pull {name_of(teacher)}` fetches it"
    return (
        f"{name_of(teacher)}, a teacher, may have learned from images that the student is measured on: "
        f"{hint if teacher.version else 'a folder does not say what data it is made from'}"
    )
