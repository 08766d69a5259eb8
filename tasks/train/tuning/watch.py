"""Ends trainings: those of a search that are not worth their time, and those whose time is up."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from tasks.train.tuning.module import TuningModule


class Pruning(Callback):
    """Tells a trial of each epoch's figure; ends the training where the trial says so, or where time is up.

    Args:
        trial: of Optuna.
        merit: the figure's column in the curves.
        ends: by `time.monotonic`.

    Attributes:
        pruned: whether the trial said so.
    """

    def __init__(self, trial: Any, merit: str, ends: float) -> None:
        self.trial, self.merit, self.ends = trial, merit, ends
        self.pruned = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TuningModule)
        self.trial.report(pl_module.rows[-1][self.merit], len(pl_module.rows))
        self.pruned = self.trial.should_prune()
        if self.pruned or time.monotonic() >= self.ends:
            trainer.should_stop = True


class InTime(Callback):
    """Ends a training when its clock says so, in the middle of an epoch if need be: what it has learned by then is
    looked at like an epoch's."""

    def __init__(self) -> None:
        self.began, self.steps = 0.0, -1

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, TuningModule)
        clock, batches = pl_module.clock, pl_module.batches
        self.steps += 1
        if self.steps == 0:  # the first step waits for its images, and for memory: it tells nothing of the others
            self.began = time.monotonic()
        elif not clock.validation:  # a forward pass is a third of a step; under attack both are steps of the attack
            forward = 1 / 3 if pl_module.method.attack is None else 1
            step = (time.monotonic() - self.began) / self.steps
            clock.guess = step * forward / batches.batch_size * len(trainer.val_dataloaders.targets)  # type: ignore[union-attr]
        self._end_where_time_is_up(trainer, pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.began = time.monotonic()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TuningModule)
        pl_module.clock.validation = time.monotonic() - self.began
        self._end_where_time_is_up(trainer, pl_module)

    def _end_where_time_is_up(self, trainer: L.Trainer, module: TuningModule) -> None:
        # Of several processes, all have to stop alike.
        trainer.should_stop = trainer.strategy.broadcast(trainer.should_stop or module.clock.share >= 1)
