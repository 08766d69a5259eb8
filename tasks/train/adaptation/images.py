"""A backbone that is adapted to a domain: what it learns from, what a batch costs, and whether it is trusted."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import batch_norm

from tasks.preprocess.pictures import Pictures, Squares
from tasks.progress import tell
from tasks.train.adaptation.caution import Attempt, keep
from tasks.train.adaptation.config import LEAST_AGREEMENT
from tasks.train.adaptation.criteria import MOST, Verdict, agreement, information
from tasks.train.adaptation.midway import HALF, has_statistics, midway
from tasks.train.adaptation.terms import TERMS, Activations, Term
from tasks.train.solvers import Fit
from tasks.train.task import Task
from tasks.train.tuning.batches import HeldOut
from tasks.train.tuning.config import TuningConfig
from tasks.train.tuning.labels import labelled
from tasks.train.tuning.network import Loss, Material
from tasks.train.tuning.served import Served

LEAST_LIKENESS = 0.5
"""Cohen's kappa of the adapted network and of the plain one under the target's statistics from which on the former goes
on from what the labels taught; chosen, as the next one, on pairs of PACS' domains (benchmarks/adaptation_tuned.py)."""

LEAST_RISE = 1.1
"""How many times as much the plain network tells of the target's images under their statistics (`information`) as under
its own, from which on the target is another domain to it."""


def adapting(method: TuningConfig, task: Task, term: str, strength: float) -> Material:
    """The labelled images, then those of the target, whose labels nobody knows.

    Args:
        term: one of `TERMS`.
        strength: how much it counts.
    """
    _, targets, loss = labelled(method, task)
    rows = pd.concat([task.rows("train"), task.target_rows])
    pictures = task.once("pictures of both", lambda: Pictures(task.paths(rows), task.recipe))
    assert isinstance(loss, Loss)
    torch.manual_seed(task.seed)  # of several processes, each draws the same
    drawn_together = TERMS[term](task.features.width, task.classes)
    return Material(pictures, targets, Adapting(loss, drawn_together, strength))


class Adapting(nn.Module):
    """What a batch costs: the loss of images that have labels, and a term that draws both domains together.

    The term sees features that are standardised over the batch, both domains alike: those of a frozen backbone say
    little of what norms that follow the images give, and what is drawn together by being scaled down is no nearer.
    """

    def __init__(self, loss: Loss, term: Term, strength: float) -> None:
        super().__init__()
        self.loss, self.term, self.strength = loss, term, strength

    def forward(self, logits: torch.Tensor, targets: torch.Tensor, features: torch.Tensor, over: float) -> torch.Tensor:
        count = len(targets)
        with torch.autocast(logits.device.type, enabled=False):
            hidden = batch_norm(features.float(), None, None, training=True)
            source = Activations(hidden[:count], logits[:count].float())
            target = Activations(hidden[count:], logits[count:].float())
            loss: torch.Tensor = self.loss(source.logits, targets)
            return loss + self.strength * self.term(source, target, over)


def trusted(
    changed: Fit, plain: Fit, task: Task, follow: bool = True, least_agreement: float = LEAST_AGREEMENT
) -> Fit:  # fmt: skip
    """What is served of a network that was adapted and one that has seen no image of the target: `midway` between them
    or, where the former contradicts the latter under the target's statistics, this one under these; or, where that is
    not trusted (`Verdict`) or these statistics alone tell little more of the target, the latter as it is.

    Args:
        follow: whether batch norms follow the images.
    """
    target, seen = some_of_target(task), Attempt(plain, answers(plain, task))
    served: Attempt | None = None
    if follow and has_statistics(plain):
        moved = _under_target(plain, changed, task)
        if (kept := _kept_as_it_is("adapt_tuned", seen, moved)) is not None:
            return kept
        if agreement(answers(changed, task), moved.logits) < LEAST_LIKENESS:
            tell("train\tadapt_tuned: answers contradict what was learned, so only the statistics are the target's")
            served = moved
    if served is None:
        both = midway(plain, changed, HALF, task, target, follow)
        served = Attempt(both, answers(both, task))
    return keep("adapt_tuned", seen, served, cautious=True, least_agreement=least_agreement)


def restated(plain: Fit, task: Task, cautious: bool = True, least_agreement: float = LEAST_AGREEMENT) -> Fit:
    """A network that has seen no image of the target, with the statistics of these in its batch norms (AdaBN, Li et al.
    2017, "Revisiting batch normalization for practical domain adaptation", 3.2) or, where caution is asked for and they
    tell little more of the target or are not trusted (`Verdict`), as it is."""
    seen, moved = Attempt(plain, answers(plain, task)), _under_target(plain, plain, task)
    if cautious and (kept := _kept_as_it_is("adabn_tuned", seen, moved)) is not None:
        return kept
    return keep("adabn_tuned", seen, moved, cautious, least_agreement)


def _under_target(plain: Fit, changed: Fit, task: Task) -> Attempt:
    """A network with the target's statistics, and nothing else of it; on record it is what became of another one."""
    moved = midway(plain, changed, 0.0, task, some_of_target(task), follow=True)
    return Attempt(moved, answers(moved, task))


def _kept_as_it_is(method: str, plain: Attempt, moved: Attempt) -> Fit | None:
    """The plain network, where it tells little more of the target under the target's statistics."""
    verdict = Verdict.of(moved.logits.softmax(1), plain.logits.softmax(1))
    if verdict.information >= LEAST_RISE * verdict.plain_information:
        return None
    tell(f"train\t{method}: the target hardly differs in its statistics, so the model is kept as it is")
    return replace(plain.fit, chosen=plain.fit.chosen | verdict.chosen(False))


def adapted(fit: Fit, task: Task) -> Fit:
    """The adapted network, which nothing is held against."""
    told = information(answers(fit, task).softmax(1))
    return replace(fit, chosen=fit.chosen | {"adapted": 1.0, "information": told})


@torch.inference_mode()
def answers(fit: Fit, task: Task) -> torch.Tensor:
    """Of a tuned network, as it would be served, about images of the target, up to `MOST`: logits ``[N, C]``."""
    assert fit.backbone is not None
    device = torch.device(task.features.device)
    backbone = Served(*task.network(), getattr(torch, task.features.precision)).backbone_of(fit.backbone.state, device)
    head = deepcopy(fit.head).to(device)
    squares = some_of_target(task)
    images = HeldOut(squares, torch.zeros(len(squares)))
    return torch.cat([head(backbone(batch.to(device))).cpu() for batch, _ in images])


def some_of_target(task: Task) -> Squares:
    """Up to `MOST` images of the target, drawn by chance."""

    def drawn() -> Squares:
        rows = task.target_rows
        return Squares(task.paths(rows.sample(min(len(rows), MOST), random_state=0)), task.recipe)

    return task.once("squares of the target", drawn).load("decode")
