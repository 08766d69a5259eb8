"""Weights of several trainings that began alike, averaged: one network, no slower than each of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch

from tasks.extract.weights import State
from tasks.train.heads import Head
from tasks.train.solvers import Fit
from tasks.train.targets import measured, merit_name
from tasks.train.task import Task
from tasks.train.tuning.batches import HeldOut
from tasks.train.tuning.served import Served

SHARES = tuple(tenths / 10 for tenths in range(11))
"""Of the tuned weights, where they are mixed with the frozen ones."""


@dataclass(frozen=True)
class Mixture:
    """Weights of the network and of the head."""

    network: State
    head: State

    @classmethod
    def of(cls, fit: Fit) -> Mixture:
        """Those of a training."""
        assert fit.backbone is not None
        return cls(fit.backbone.state, fit.head.state_dict())

    def towards(self, other: Mixture, share: float) -> Mixture:
        """``(1 - share) * self + share * other``, of every weight and statistic."""
        return Mixture(between(self.network, other.network, share), between(self.head, other.head, share))


def between(start: State, end: State, share: float) -> State:
    """A state on the line from one to another; what is no float is the end's."""
    return {
        key: start[key].to(tensor).lerp(tensor, share) if tensor.is_floating_point() and key in start else tensor
        for key, tensor in end.items()
    }


class Judge:
    """Measures weights on the images that choices are made on, as they would be served."""

    def __init__(self, task: Task, head: Head) -> None:
        self.served = Served(*task.network(), getattr(torch, task.features.precision))
        self.head, self.device = copy.deepcopy(head), torch.device(task.features.device)
        self.images = HeldOut(*task.squares())
        self.images.squares.load("decode")
        self.merit = f"validation/{merit_name(head.tells)}"

    @torch.inference_mode()
    def __call__(self, mixture: Mixture) -> dict[str, float]:
        """Loss and merit, as a row of curves has them."""
        backbone = self.served.backbone_of(mixture.network, self.device)
        self.head.load_state_dict(mixture.head)
        head = self.head.to(self.device)
        seen = [(head(backbone(images.to(self.device))).cpu(), targets) for images, targets in self.images]
        logits, targets = (torch.cat(parts) for parts in zip(*seen, strict=True))
        return measured("validation", logits, targets)

    def rank(self, row: dict[str, float]) -> tuple[float, float]:
        """The better, the larger: by merit, then by loss."""
        return row[self.merit], -row["validation/loss"]


def mixed_with_frozen(fit: Fit, task: Task, probe: Head) -> Fit:
    """WiSE-FT: tuned weights drawn towards the pretrained ones, the head's towards the solution on frozen features, as
    far as is best on validation (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", 3).

    Args:
        probe: that solution, which the training began from.
    """
    judge, tuned = Judge(task, fit.head), Mixture.of(fit)
    frozen = Mixture(task.network()[0].state_dict(), probe.state_dict())
    rows = [judge(frozen.towards(tuned, share)) for share in SHARES]
    best = max(range(len(SHARES)), key=lambda place: judge.rank(rows[place]))
    told = pd.DataFrame(rows).assign(mixed="frozen and tuned", share=SHARES, kept=[n == best for n in range(len(rows))])
    mixture = frozen.towards(tuned, SHARES[best])
    return made(fit, mixture, rows[best][judge.merit], {"share": SHARES[best]}, told)


def greedy_soup(members: Sequence[tuple[str, Callable[[], Fit]]], task: Task) -> Fit:
    """Average the weights of fits, the best first: each further one stays where the average is no worse on validation
    (Wortsman et al. 2022, "Model soups", algorithm 1).

    Args:
        members: names, and what reads them; the best on validation first.
    """
    names, read = zip(*members, strict=True)
    first: Fit = read[0]()
    judge = Judge(task, first.head)
    soup, score, count = Mixture.of(first), judge(Mixture.of(first)), 1
    rows = [score | {"mixed": names[0], "kept": True}]
    for name, further in zip(names[1:], read[1:], strict=True):
        tried = soup.towards(Mixture.of(further()), 1 / (count + 1))
        row = judge(tried)
        kept = row[judge.merit] >= score[judge.merit]
        rows.append(row | {"mixed": name, "kept": kept})
        if kept:
            soup, score, count = tried, row, count + 1
    shares = [1 / count if row["kept"] else 0.0 for row in rows]
    return made(first, soup, score[judge.merit], {"soup": float(count)}, pd.DataFrame(rows).assign(share=shares))


def made(fit: Fit, mixture: Mixture, score: float, chosen: dict[str, float], told: pd.DataFrame) -> Fit:
    """A fit whose weights are a mixture.

    Args:
        score: of the mixture, on validation.
        chosen: what is to be said of how it came about.
        told: a row for each mixture that was tried.
    """
    assert fit.backbone is not None
    head = copy.deepcopy(fit.head)
    head.load_state_dict(mixture.head)
    tables: Iterable[pd.DataFrame] = [told] if fit.mixed is None else [fit.mixed, told]
    return replace(
        fit, head=head, backbone=replace(fit.backbone, state=mixture.network), score=score,
        chosen=fit.chosen | chosen, mixed=pd.concat(tables, ignore_index=True), further={},
    )  # fmt: skip
