"""What a training leaves on the disk: checkpoints to go on from, and the weights of its epochs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import TorchCheckpointIO
from safetensors.torch import load_file, save_file

from tasks.train.heads import Head
from tasks.train.solvers import Fit
from tasks.train.targets import merit_column
from tasks.train.task import Task
from tasks.train.tuning.config import TuningConfig
from tasks.train.tuning.module import TuningModule

FURTHER = "task_"
"""How files of further tasks' heads begin."""
BACKBONE, HEAD, LAST = "backbone.safetensors", "head.safetensors", "last.ckpt"


def is_over(method: TuningConfig, folder: Path) -> bool:
    """Whether nothing is left to be trained: all epochs have passed, or it was ended early."""
    if not (folder / LAST).is_file():
        return False
    kept = torch.load(folder / LAST, map_location="cpu", weights_only=True, mmap=True)["tuning"]
    return kept["ended"] or len(kept["rows"]) >= method.epochs


def ranked_epochs(task: Task) -> list[int]:
    """Epochs by their numbers, the best on validation first."""
    curves = pd.DataFrame(_kept(task)["rows"])
    merits = curves[compared_by(curves)]
    return [int(place) + 1 for place in merits.sort_values(ascending=False, kind="stable").index]


def compared_by(curves: pd.DataFrame) -> str:
    """The column that epochs are compared by: what is right under attack, where that was measured."""
    merit = merit_column(curves)
    attacked = merit.replace("/", "/attacked_")
    return attacked if attacked in curves else merit


def kept_epoch(method: TuningConfig, task: Task) -> int:
    """Of the epochs, the one whose weights the method keeps."""
    compared = method.compared_by(task.aim.kind)
    return 1 + method.epoch_kept([row[compared] for row in _kept(task)["rows"]])


def _kept(task: Task) -> dict[str, Any]:
    kept: dict[str, Any] = torch.load(task.folder / LAST, map_location="cpu", weights_only=True, mmap=True)["tuning"]
    return kept


def fit_of(task: Task, epoch: int | None = None) -> Fit:
    """What an epoch came to, by default the best."""
    kept = _kept(task)
    curves = pd.DataFrame(kept["rows"])
    compared, merit = compared_by(curves), merit_column(curves)
    best = epoch - 1 if epoch else int(curves[compared].argmax())
    folder = _of_epoch(task.folder, best + 1)
    state = load_file(folder / HEAD)
    classes, width = state["layers.weight"].shape
    kind = task.aim.kind
    head = Head(width, classes, multi_label=kind == "labels", number=kind == "number")
    head.load_state_dict(state)
    return Fit(
        head.eval(), float(curves[merit][best]), {"epoch": float(best + 1)}, curves,
        backbone=replace(task.weights, state=load_file(folder / BACKBONE), source=str(folder / BACKBONE)),
        rates=pd.DataFrame(kept["chosen"]),
        further={path.stem.removeprefix(FURTHER): Head.load(path) for path in folder.glob(f"{FURTHER}*.safetensors")},
        attacked=None if compared == merit else float(curves[compared][best]),
    )  # fmt: skip


def _of_epoch(folder: Path, epoch: int) -> Path:
    """Where the weights of an epoch lie that was the best one so far."""
    return folder / f"epoch-{epoch}"


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that appear whole or not at all. Lightning's own are moved from the folder for temporary files, which
    may be on another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        new = Path(f"{path}.new")
        torch.save(checkpoint, new)
        new.replace(path)


class KeepBest(Callback):
    """Writes the weights of the epoch that the method keeps, the best on validation, or of every one, as they were
    evaluated.

    Those of the best one before are removed when the next epoch begins. Killed before the checkpoint is written, the
    epoch is trained again, on a GPU not to the same bits, and it may be the earlier one that is the best.
    """

    def __init__(self, folder: Path, merit: str, method: TuningConfig) -> None:
        self.folder, self.merit, self.method = folder, merit, method

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TuningModule)
        count = len(pl_module.rows)
        if trainer.is_global_zero and (self.method.soup or self._kept(pl_module) == count):
            folder = _of_epoch(self.folder, count)
            folder.mkdir(exist_ok=True)
            for name, state in zip((BACKBONE, HEAD), pl_module.states, strict=True):
                save_file(state, folder / f"{name}.new")
                (folder / f"{name}.new").replace(folder / name)
            for name, head in pl_module.further.items():
                head.save(new := folder / f"{FURTHER}{name}.new")
                new.replace(folder / f"{FURTHER}{name}.safetensors")

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TuningModule)
        if trainer.is_global_zero and pl_module.rows and not self.method.soup:
            kept = _of_epoch(self.folder, self._kept(pl_module))
            for folder in self.folder.glob("epoch-*"):
                if folder != kept:
                    shutil.rmtree(folder)

    def _kept(self, pl_module: TuningModule) -> int:
        return 1 + self.method.epoch_kept([row[self.merit] for row in pl_module.rows])
