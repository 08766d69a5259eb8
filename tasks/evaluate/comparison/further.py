"""Tasks beside the leading one, of two models: which both tell, and how each stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from tasks.evaluate.comparison.known import Known
from tasks.evaluate.comparison.number_pair import NumberPair
from tasks.evaluate.comparison.pair import Pair
from tasks.evaluate.comparison.vocabularies import Changes, aligned
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.further import answer_further
from tasks.evaluate.numbers.answers import Numbers, told_by
from tasks.evaluate.report import Answers
from tasks.evaluate.scores.paired import Difference, holm
from tasks.extract.joined import JoinedStore
from tasks.groups import group_numbers, groups_among
from tasks.model.bundle import head_file
from tasks.records import Candidate, Comparison, Dataset, FeatureSet
from tasks.rival import Rival
from tasks.target import Target
from tasks.train.heads import Head, predict_probabilities
from tasks.wording import figure_text

AnyPair = Pair | NumberPair

FEWEST = 20
"""Images of a further task below which it is not compared."""

SURE = 0.05
"""A further task that is worse is told where its p-value, raised for the number of tasks, is below."""


@dataclass
class Beside:
    """How further tasks of both stand.

    Attributes:
        pairs: of each split and task, the images with a label that neither knows.
        differences: of each figure, by ``split/task/figure``.
        new, gone: tasks that only we, or only they, tell; gone_classes: of the others, classes that only they know.
    """

    pairs: list[AnyPair] = field(default_factory=list)
    differences: dict[str, Difference] = field(default_factory=dict)
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    gone_classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def entries(self, comparison: Comparison) -> dict[str, Any]:
        """What they change in the record of a comparison."""
        named = {f"{pair.split}/{pair.task}": pair for pair in self.pairs}
        return {
            "metrics": comparison.metrics | {name: astuple(each) for name, each in self.differences.items()},
            "p_values": comparison.p_values | {name: pair.p for name, pair in named.items()},
            "further": {name: len(pair.rows) for name, pair in named.items()},
            "new_tasks": self.new,
            "gone_tasks": self.gone,
            "gone_of_tasks": self.gone_classes,
        }


def compare_further(
    config: EvaluateConfig, dataset: Dataset, features: FeatureSet, candidate: Candidate, rival: Rival,
    theirs: FeatureSet, known: Known, splits: Sequence[str],
) -> Beside:  # fmt: skip
    """Hold each further task that both tell against the same task of the registered version."""
    ours, other = ({target.name: target for target in targets} for targets in (dataset.further, rival.targets[1:]))
    both = [name for name in ours if name in other]
    found = Beside(
        new=tuple(name for name in ours if name not in other), gone=tuple(name for name in other if name not in ours)
    )
    for name in both:
        if unlike := other_task(ours[name], other[name]):
            found.findings.append(f"{name}: {unlike}")
            continue
        if lost := tuple(each for each in other[name].classes if each not in ours[name].classes):
            found.gone_classes[name] = lost
        head = Head.load(rival.bundle / head_file(name))
        for split in splits:
            answers = answer_further(ours[name], split, dataset, features, candidate)
            pair = None if answers is None else _pair(answers, head, ours[name], other[name], theirs, known)
            if pair and len(pair.rows) >= FEWEST:
                found.pairs.append(pair)
                told = pair.differences(config)
                found.differences |= {f"{split}/{name}/{figure}": each for figure, each in told.items()}
    found.findings += _worse(found)
    changes = (("told anew", found.new), ("told no more", found.gone))
    found.findings += [f"tasks {what}: {', '.join(names)}" for what, names in changes if names]
    return found


def leading_of(rival: Rival, head: Head) -> Target:
    """The task that a registered version leads with; packages of earlier versions do not say which kind it is."""
    kind: Any = "labels" if head.multi_label else "class"
    return rival.targets[0] if rival.targets else Target(kind=kind, classes=rival.classes)


def other_task(ours: Target, theirs: Target) -> str | None:
    """Why two tasks cannot be compared, in words; None where they can."""
    if ours.kind != theirs.kind:
        if "number" in (ours.kind, theirs.kind):
            return "one of the two tells a number, the other one classes"
        return "one of the two gives several labels an image, the other one"
    if ours.kind == "number" and (ours.name, ours.unit) != (theirs.name, theirs.unit):
        return f"it tells {_spelt(ours)}, the champion {_spelt(theirs)}"
    return None


def pair_numbers(ours: Numbers, theirs: Numbers, known: Known) -> NumberPair:
    """Both models' numbers of the images that neither knows."""
    near, keep = known.among(ours.rows)
    rows, groups = ours.rows[keep].reset_index(drop=True), groups_among(ours.groups, keep)
    sides = [
        replace(
            each, rows=rows, targets=each.targets[keep], mean=each.mean[keep], spread=each.spread[keep], groups=groups
        )
        for each in (ours, theirs)
    ]
    return NumberPair(sides[0], sides[1], int((~keep).sum()), int(near.sum()))


def pair_classes(
    answers: Answers, theirs: np.ndarray, classes: Sequence[str], their_classes: Sequence[str], changes: Changes,
    known: Known,
) -> Pair:  # fmt: skip
    """Both models' answers on the images that neither knows, of classes that both do.

    Args:
        theirs: probabilities ``[N, classes]`` of ``their_classes``.
    """
    near, keep = known.among(answers.rows)
    names = [changes.renamed.get(name, name) for name in their_classes]
    if answers.targets.ndim == 2:  # each class is a question of its own
        columns = changes.shared
        targets = aligned(answers.targets, classes, columns)
    else:
        keep &= answers.rows["label"].isin(changes.shared).to_numpy()
        columns = (*classes, *changes.gone)
        targets = answers.targets
    rows = answers.rows[keep].reset_index(drop=True)
    ours = aligned(answers.probabilities, classes, columns)
    theirs = aligned(theirs, names, columns)
    return Pair(
        answers.split, rows, columns, targets[keep], ours[keep], theirs[keep], group_numbers(rows), int((~keep).sum()),
        int(near.sum()), answers.task,
    )  # fmt: skip


def _pair(
    answers: Answers | Numbers, head: Head, ours: Target, other: Target, theirs: FeatureSet, known: Known
) -> AnyPair:
    inputs = torch.from_numpy(JoinedStore(theirs).read(answers.rows["hash"]))
    if isinstance(answers, Numbers):
        return pair_numbers(answers, told_by(head, inputs, answers.split, answers.rows, ours.unit, ours.name), known)
    shared = tuple(name for name in ours.classes if name in other.classes)
    new, gone = (tuple(name for name in names if name not in shared) for names in (ours.classes, other.classes))
    given = predict_probabilities(head, inputs).numpy()
    return pair_classes(answers, given, ours.classes, other.classes, Changes(shared, new, gone, {}), known)


def _worse(found: Beside) -> list[str]:
    lines = []
    raised = holm([pair.p for pair in found.pairs]) if found.pairs else ()
    for pair, p in zip(found.pairs, raised, strict=True):
        of = found.differences[f"{pair.split}/{pair.task}/{pair.headline}"]
        sign = -1 if pair.headline == "mae" else 1
        if p < SURE and sign * of.value < 0:
            now, before = (figure_text(each, pair.headline) for each in (of.ours, of.theirs))
            what = pair.headline.removesuffix("_macro").replace("_", " ").replace("mae", "MAE")
            lines.append(
                f"{pair.split}/{pair.task}: worse: {what} {now} where it was {before} "
                f"({len(pair.rows):,} images, p {p:.2g})"
            )
    return lines


def _spelt(target: Target) -> str:
    return f"{target.name} in {target.unit}" if target.unit else target.name
