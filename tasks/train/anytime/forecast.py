"""The plan of a budget, told beforehand: the steps that would follow each other if every prediction came true."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tasks.train.anytime.plan import chance, next_step
from tasks.train.anytime.situation import Situation
from tasks.train.anytime.step import Step

FROZEN = 0.9
"""Merit of every head, for want of a better guess: only differences decide."""


def forecast(situation: Situation, left: float) -> list[Step]:
    """All steps of a budget, with what is predicted of them; all backbones are taken to be as good as each other, and
    training through them to pay.

    Args:
        left: seconds of the budget.
    """
    done: list[Step] = []
    while step := next_step(situation, done, left - sum(each.took for each in done if not math.isnan(each.took))):
        done += [step] if step.state == "left out" else _come_true(step, situation, done)
    return done


def _come_true(step: Step, situation: Situation, done: Sequence[Step]) -> list[Step]:
    if step.kind == "rank":
        names = [contender.name for contender in situation.contenders]
        share = step.predicted / len(names)
        return [
            replace(step, backbone=name, score=FROZEN, may_be_best=True, state="done", took=share, predicted=share)
            for name in names
        ]
    gained = 2 * chance(FROZEN, max(1, situation.judged)) if step.kind in ("tune", "final") else 0.0
    tried = step.kind == "final" and not math.isnan(step.expected)
    why = "if the gain of the short trainings is beyond chance" if tried else step.why
    return [replace(step, score=FROZEN + gained, frozen=FROZEN, state="done", took=step.predicted, why=why)]
