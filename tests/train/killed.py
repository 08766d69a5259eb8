"""Trainings that are broken off, and what has to be the same all the same."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from tasks.train.solvers import Fit
from tasks.train.task import Task
from tasks.train.tuning.method import ThroughBackbone
from tasks.train.tuning.run import tune


def assert_same(first: Fit, second: Fit) -> None:
    assert first.backbone is not None and second.backbone is not None
    for mine, other in (
        (first.backbone.state, second.backbone.state), (first.head.state_dict(), second.head.state_dict()),
    ):  # fmt: skip
        assert set(mine) == set(other)
        assert [name for name in mine if not torch.equal(mine[name], other[name])] == []
    assert first.curves.equals(second.curves) and first.score == second.score and first.chosen == second.chosen
    assert first.rates is not None and first.rates.equals(second.rates)


class Kill(Callback):
    """Breaks the training off in one of Lightning's hooks, in the second epoch."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, self._kill)

    def _kill(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.current_epoch >= 1:
            raise InterruptedError("killed")


def kill(method: ThroughBackbone, task: Task, hook: str = "on_train_batch_end") -> None:
    """Train until the second epoch."""
    with pytest.raises(InterruptedError, match="killed"):
        tune(method, task, Kill(hook))
