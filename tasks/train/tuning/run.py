"""A training through the backbone from its beginning, or from where it was killed, to a fitted model."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, Strategy
from safetensors.torch import load_file, save_file

from tasks.extract.precision import choose_precision
from tasks.progress import Advance, progress, tell
from tasks.train.heads import Head
from tasks.train.solvers import Fit, fit_linear
from tasks.train.targets import class_weights, is_multi_label, loss_of, merit_name
from tasks.train.task import Task
from tasks.train.tuning.batches import Batches, Squares
from tasks.train.tuning.blocks import blocks_of
from tasks.train.tuning.depthwise import with_fast_gradients
from tasks.train.tuning.method import ThroughBackbone
from tasks.train.tuning.module import TuningModule
from tasks.train.tuning.network import Tuning

BACKBONE, HEAD, LOGITS, LAST = "backbone.safetensors", "head.safetensors", "logits.safetensors", "last.ckpt"


def tune(method: ThroughBackbone, task: Task, watch: Callback | None = None) -> Fit:
    """Train as the method says; the best epoch on validation is kept.

    Killed at any time, a second call with the same task goes on after the last epoch that was over, and ends with the
    same weights as an unbroken one.

    Args:
        watch: hears of the training as Lightning goes through it, such as to end it early.
    """
    head = _first_head(method, task)
    pictures, targets = task.pictures()
    held_out = Squares(*task.pictures(validation=True))
    network, backbone = task.network()
    blocks = blocks_of(network, backbone.trunk)
    torch.manual_seed(task.seed)
    method.prepare(network, blocks)
    with_fast_gradients(network)
    sizes = tuple(method.sizes) or (task.preprocessed.size,)
    batches = Batches(
        pictures.load("decode"), targets, task.classes, min(method.batch_size, len(targets)), method.epochs, sizes,
        method.augment, method.least_area, method.balance, task.seed,
    )  # fmt: skip
    held_out.pictures.load("decode")
    weights = class_weights(targets, task.classes) if method.balance == "weights" else None
    criterion = loss_of(is_multi_label(targets), method.label_smoothing, weights)
    frozen = method.batch_norm == "frozen"
    tuning = Tuning(network, backbone, head, blocks, criterion, batches, frozen)
    module = TuningModule(method, tuning, batches, method.epochs * len(batches), task.seed)
    _train(method, module, held_out, task, watch)
    return _best_fit(module, task)


def _first_head(method: ThroughBackbone, task: Task) -> Head:
    """A linear head, of zeros or solved on the frozen features, that knows these features' statistics."""
    features, targets = task.plain
    if method.head == "probe":
        return fit_linear(task.plain, task.validation, task.classes, _solved(method.balance)).head.train()
    head = Head(features.shape[1], task.classes, multi_label=is_multi_label(targets)).standardise_like(features)
    for parameter in head.parameters():
        parameter.data.zero_()
    return head


def _solved(balance: str) -> Any:
    return "none" if balance == "none" else "weights"


def _train(
    method: ThroughBackbone, module: TuningModule, held_out: Squares, task: Task, watch: Callback | None
) -> None:
    merit = f"validation/{merit_name(module.tuning.head.multi_label)}"
    device = torch.device(task.features.device)
    precision = choose_precision(method.precision, device)
    count = _devices(method, device)
    task.folder.mkdir(parents=True, exist_ok=True)
    module.tuning.to(memory_format=torch.channels_last)
    total = method.epochs * len(module.batches) * module.batches.batch_size
    with progress("train", total, "img") as advance, _quiet():
        callbacks: list[Callback] = [KeepBest(task.folder, merit), Report(advance, merit)]
        if method.ema:
            callbacks.append(EMAWeightAveraging(decay=method.ema))
        if method.patience:
            callbacks.append(EarlyStopping(merit, mode="max", patience=method.patience))
        callbacks += [watch] if watch else []
        callbacks.append(ModelCheckpoint(task.folder, "last", save_top_k=1, enable_version_counter=False))
        trainer = L.Trainer(
            accelerator="gpu" if device.type == "cuda" else device.type,
            devices=count,
            strategy=_strategy(count),
            use_distributed_sampler=False,
            max_epochs=method.epochs,
            precision={torch.bfloat16: "bf16-mixed", torch.float16: "16-mixed"}.get(precision, "32-true"),  # type: ignore[arg-type]
            deterministic=device.type == "cpu",
            callbacks=callbacks,
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=task.folder,
        )
        last = task.folder / LAST
        trainer.fit(module, module.batches, held_out, ckpt_path=last if last.is_file() else None, weights_only=True)


def _devices(method: ThroughBackbone, device: torch.device) -> int:
    if method.devices != "auto":
        return method.devices
    return max(1, torch.cuda.device_count()) if device.type == "cuda" else 1


def _strategy(count: int) -> str | Strategy:
    # Blocks are frozen and freed between epochs, so some parameters have no gradient in some.
    return "auto" if count == 1 else DDPStrategy(start_method="spawn", find_unused_parameters=True)


def _best_fit(module: TuningModule, task: Task) -> Fit:
    # From the files: where several processes trained, this one's module has not learned anything.
    kept = torch.load(task.folder / LAST, map_location="cpu", weights_only=True)["tuning"]
    module.rows, module.chosen = kept["rows"], kept["chosen"]
    curves = module.curves()
    merit = f"validation/{merit_name(module.tuning.head.multi_label)}"
    best = int(curves[merit].argmax())
    head = Head(module.tuning.head.width, task.classes, multi_label=module.tuning.head.multi_label)
    head.load_state_dict(load_file(task.folder / HEAD))
    return Fit(
        head.eval(), float(curves[merit][best]), {"epoch": float(best + 1)}, curves,
        backbone=replace(task.weights, state=load_file(task.folder / BACKBONE), source=str(task.folder / BACKBONE)),
        rates=pd.DataFrame(module.chosen), logits=load_file(task.folder / LOGITS)["logits"],
    )  # fmt: skip


class KeepBest(Callback):
    """Writes the weights of the best epoch on validation, as they were evaluated."""

    def __init__(self, folder: Path, merit: str) -> None:
        self.folder, self.merit = folder, merit
        self.states: tuple[dict[str, torch.Tensor], ...] = ()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TuningModule)
        # Now, before a running average of the weights makes place for the weights themselves again.
        self.states = pl_module.tuning.states()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TuningModule)
        figures = [row[self.merit] for row in pl_module.rows]
        if trainer.is_global_zero and figures[-1] > max(figures[:-1], default=-1.0):
            states = (*self.states, {"logits": pl_module.logits})
            for name, state in zip((BACKBONE, HEAD, LOGITS), states, strict=True):
                save_file(state, self.folder / f"{name}.new")
                (self.folder / f"{name}.new").replace(self.folder / name)


class Report(Callback):
    """Says how far the training has come, and how good it is after each epoch."""

    def __init__(self, advance: Advance, merit: str) -> None:
        self.advance, self.merit = advance, merit
        self.started = time.monotonic()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started = time.monotonic()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TuningModule)
        batches = pl_module.batches
        batches.share = (trainer.global_rank, trainer.world_size)
        if trainer.current_epoch:
            tell(f"train\tgoes on after epoch {trainer.current_epoch}")
            self.advance(trainer.current_epoch * len(batches) * batches.batch_size)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, TuningModule)
        self.advance(pl_module.batches.batch_size)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TuningModule)
        row = pl_module.rows[-1]
        what = self.merit.removeprefix("validation/").replace("_", " ")
        tell(
            f"train\tepoch {int(row['step'])}: loss {row['train/loss']:.3f}, validation {what} {row[self.merit]:.4f}"
            f"\t{time.monotonic() - self.started:.0f} s"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning tells of its devices and advises loader workers, which batches in memory have no use for."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
