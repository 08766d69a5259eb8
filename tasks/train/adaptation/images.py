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
from tasks.train.adaptation.criteria import MOST, Verdict
from tasks.train.adaptation.terms import TERMS, Activations, Term
from tasks.train.heads import Head
from tasks.train.solvers import Fit
from tasks.train.targets import merit
from tasks.train.task import Task
from tasks.train.tuning.batches import HeldOut
from tasks.train.tuning.config import TuningConfig
from tasks.train.tuning.labels import labelled
from tasks.train.tuning.network import Loss, Material
from tasks.train.tuning.served import Served


def adapting(method: TuningConfig, task: Task, term: str, strength: float) -> Material:
    """The labelled images, then those of the pool, whose labels nobody knows.

    Args:
        term: one of `TERMS`.
        strength: how much it counts.
    """
    _, targets, loss = labelled(method, task)
    rows = pd.concat([task.rows("train"), task.rows("pool")])
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


def trusted(fit: Fit, task: Task, probe: Head, cautious: bool) -> Fit:
    """The adapted network or, where caution is asked for and it is not trusted (`Verdict`), the head that is solved on
    features of the pretrained backbone: both answer about up to `MOST` images of the pool.

    Args:
        probe: that head.
    """
    rows = task.rows("pool")
    places = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:MOST]
    plain = deepcopy(probe).eval()
    with torch.inference_mode():
        before = plain(task.unlabelled[places]).softmax(1)
    verdict = Verdict.of(_answers(fit, task, rows.iloc[places.numpy()]), before)
    better = not cautious or verdict.trusted
    chosen = fit.chosen | verdict.chosen(better)
    if better:
        return replace(fit, chosen=chosen)
    tell("train\tcriteria do not agree that adapting does good, so head and backbone are kept as they were before")
    features, targets = task.validation
    return replace(fit, head=plain, backbone=None, score=merit(plain(features), targets), chosen=chosen)


@torch.inference_mode()
def _answers(fit: Fit, task: Task, rows: pd.DataFrame) -> torch.Tensor:
    """Of a tuned network about images of the pool, as it would be served: probabilities ``[N, C]``."""
    assert fit.backbone is not None
    device = torch.device(task.features.device)
    backbone = Served(*task.network(), getattr(torch, task.features.precision)).backbone_of(fit.backbone.state, device)
    head = deepcopy(fit.head).to(device)
    squares = task.once("squares of the pool", lambda: Squares(task.paths(rows), task.recipe)).load("decode")
    images = HeldOut(squares, torch.zeros(len(rows)))
    return torch.cat([head(backbone(batch.to(device))).softmax(1).cpu() for batch, _ in images])
