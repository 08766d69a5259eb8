"""Ends trainings of a search that are not worth their time."""

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
