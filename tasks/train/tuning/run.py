"""A training through the backbone from its beginning, or from where it was killed, to a fitted model."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, WeightAveraging
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.nn.utils import parametrize
from torch.optim.swa_utils import get_ema_multi_avg_fn

from tasks.extract.backbones import Backbone
from tasks.extract.precision import choose_precision
from tasks.machine import freed_memory_kept, usable_cores
from tasks.progress import Advance, progress, tell
from tasks.train.heads import Head
from tasks.train.loop import interruptible, quiet
from tasks.train.solvers import Fit
from tasks.train.task import Task
from tasks.train.tuning.activations import with_lean_activations
from tasks.train.tuning.batches import Batches, HeldOut
from tasks.train.tuning.blocks import Block, blocks_of
from tasks.train.tuning.clock import Clock
from tasks.train.tuning.config import TuningConfig
from tasks.train.tuning.depthwise import with_fast_gradients
from tasks.train.tuning.folding import fold_frozen_norms, folding_pays
from tasks.train.tuning.kept import LAST, KeepBest, WholeFiles, fit_of, is_over, kept_epoch, ranked_epochs
from tasks.train.tuning.labels import first_head
from tasks.train.tuning.mixing import greedy_soup, mixed_with_frozen
from tasks.train.tuning.module import TuningModule
from tasks.train.tuning.network import Tuning
from tasks.train.tuning.ranks import Rank, count_devices, shared_by
from tasks.train.tuning.served import Served
from tasks.train.tuning.watch import InTime


def tune(method: TuningConfig, task: Task, watch: Callback | None = None) -> Fit:
    """Train as the method says; the best epoch on validation is kept.

    Killed at any time, a second call with the same task goes on after the last epoch that was over, and ends with the
    same weights as an unbroken one.

    Args:
        watch: hears of the training as Lightning goes through it, such as to end it early.
    """
    if not is_over(method, task.folder):
        parts = _parts(method, task)
        count = _processes(method, task)
        with shared_by(count, _help, method, replace(task, known={}) if count > 1 else None) as rank:
            _train(method, task, parts, rank, watch)
    return _mixed(method, task)


def _mixed(method: TuningConfig, task: Task) -> Fit:
    """What the training came to: the best epoch or, where that is asked for, an average."""
    epochs = [(f"epoch {epoch}", partial(fit_of, task, epoch)) for epoch in ranked_epochs(task)]
    averaged = method.soup and len(epochs) > 1
    fit = greedy_soup(epochs, task) if averaged else fit_of(task, kept_epoch(method, task))
    return method.settle(mixed_with_frozen(fit, task, method.probe(task)) if method.wise_ft else fit, task)


@dataclass
class _Parts:
    """A pretrained network, as a method has prepared it."""

    network: nn.Module
    backbone: Backbone
    blocks: list[Block]


def _parts(method: TuningConfig, task: Task) -> _Parts:
    network, backbone = task.network()
    blocks = blocks_of(network, backbone.trunk)
    torch.manual_seed(task.seed)
    method.prepare(network, blocks)
    if any(parametrize.is_parametrized(module) for module in network.modules()):
        # A trunk that was cut out before would use some parameters as they were.
        backbone = Backbone(network, task.weights, backbone.layers, backbone.pool)
    with_fast_gradients(network)
    with_lean_activations(network)
    if folding_pays(backbone.trunk, torch.device(task.features.device)):
        fold_frozen_norms(backbone.trunk)
    return _Parts(network, backbone, blocks)


def _help(method: TuningConfig, task: Task, rank: Rank) -> None:
    """What the processes do that share the batches of `tune`."""
    _train(method, task, _parts(method, task), rank, None)


def _module(method: TuningConfig, task: Task, parts: _Parts, rank: Rank) -> tuple[TuningModule, HeldOut]:
    """What is trained, and what it is evaluated on."""
    clock = Clock(method.seconds)
    head = _first_head(method, task, rank)
    pictures, targets, criterion = method.material(task)
    held_out = HeldOut(*task.squares())
    sizes = tuple(method.sizes) or (task.preprocessed.size,)
    on_gpu = torch.device(task.features.device).type == "cuda"
    batches = Batches(
        pictures.load("decode", max(sizes), rank.count), targets, task.classes, min(method.batch_size, len(targets)),
        method.epochs, sizes, method.augment, method.least_area, method.balance, task.seed,
        share=(rank.number, rank.count), processes=usable_cores() // rank.count if on_gpu else 0,
    )  # fmt: skip
    held_out.squares.load("decode", holders=rank.count)
    frozen = method.batch_norm == "frozen"
    tuning = Tuning(parts.network, parts.backbone, head, parts.blocks, criterion, batches, frozen)
    served = Served(*task.network(), getattr(torch, task.features.precision))
    return TuningModule(method, tuning, served, batches, method.epochs * len(batches), task.seed, clock), held_out


def _first_head(method: TuningConfig, task: Task, rank: Rank) -> Head:
    """The leading task's: `first_head`, which only one process has to make."""
    if rank.number or (task.folder / LAST).is_file():
        # It is given its values by the first process, or by the checkpoint; see `TuningModule`.
        kind = task.aim.kind
        return Head(task.features.width, task.classes, multi_label=kind == "labels", number=kind == "number")
    return first_head(method, task)


def _train(method: TuningConfig, task: Task, parts: _Parts, rank: Rank, watch: Callback | None) -> None:
    """One process's share of the training. What it comes to lies in the task's folder."""
    module, held_out = _module(method, task, parts, rank)
    merit = method.compared_by(module.tuning.head.tells)
    device = torch.device(task.features.device)
    precision = choose_precision(method.precision, device)
    task.folder.mkdir(parents=True, exist_ok=True)
    module.tuning.to(memory_format=torch.channels_last)
    total = method.epochs * len(module.batches) * module.batches.batch_size
    with progress("train", total, "img") as advance, quiet(), _own_settings(device), freed_memory_kept():
        callbacks: list[Callback] = [KeepBest(task.folder, merit, method), Report(advance, merit)]
        if method.ema:
            callbacks.append(WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(method.ema)))
        if method.minutes:
            callbacks.append(InTime())
        if method.patience:
            callbacks.append(EarlyStopping(merit, mode="max", patience=method.patience))
        callbacks += [watch] if watch else []
        callbacks.append(ModelCheckpoint(task.folder, "last", save_top_k=1, enable_version_counter=False))
        trainer = L.Trainer(
            accelerator="gpu" if device.type == "cuda" else device.type,
            devices=rank.count if device.index is None else [device.index],
            strategy=Together(rank) if rank.count > 1 else "auto",
            plugins=[WholeFiles()],
            use_distributed_sampler=False,
            max_epochs=method.epochs,
            precision={torch.bfloat16: "bf16-mixed", torch.float16: "16-mixed"}.get(precision, "32-true"),  # type: ignore[arg-type]
            callbacks=callbacks,
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            inference_mode=method.attack is None,  # validation images are attacked by gradients
            default_root_dir=task.folder,
        )
        last = task.folder / LAST
        rank.meet()
        with interruptible():
            trainer.fit(module, module.batches, held_out, ckpt_path=last if last.is_file() else None, weights_only=True)


def _processes(method: TuningConfig, task: Task) -> int:
    """How many share the batches: as many as are asked for, or there are, but each needs an image of a batch."""
    asked = count_devices(method.devices, torch.device(task.features.device))
    return min(asked, method.batch_size, task.dataset.counts["train"])


class Together(DDPStrategy):
    """Data parallel: each process computes gradients on its part of a batch, all step with their mean.

    `torch.nn.parallel.DistributedDataParallel`, which would overlap the two, wants the same parameters to learn from
    the first step to the last; here blocks are frozen and freed.
    """

    def __init__(self, rank: Rank) -> None:
        super().__init__(cluster_environment=_Started(rank))
        self._count = rank.count
        self._terminate = signal.getsignal(signal.SIGTERM)

    def configure_ddp(self) -> None:
        pass

    def on_train_start(self) -> None:
        # Lightning would answer the signal with a message to the others, who do not expect one, and wait forever.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._terminate)

    def post_backward(self, closure_loss: torch.Tensor) -> None:
        assert self.lightning_module is not None
        gradients = [p.grad for p in self.lightning_module.parameters() if p.grad is not None]
        together = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(together)
        together /= self._count
        for gradient, mean in zip(gradients, together.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view(gradient.shape))


class _Started(LightningEnvironment):
    """Tells Lightning of processes that it has not started itself."""

    def __init__(self, rank: Rank) -> None:
        super().__init__()
        self._rank = rank

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        return self._rank.port

    def local_rank(self) -> int:
        return self._rank.number

    def node_rank(self) -> int:
        return 0


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
def _own_settings(device: torch.device) -> Iterator[None]:
    """The same values every time on CPUs; and what Lightning and torch change for the whole process ends with it."""
    # Memory that is written to right away need not be filled before.
    filling: Any = torch.utils.deterministic
    deterministic, filled = torch.are_deterministic_algorithms_enabled(), filling.fill_uninitialized_memory
    threads, variables = torch.get_num_threads(), dict(os.environ)
    torch.use_deterministic_algorithms(device.type == "cpu")
    filling.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        filling.fill_uninitialized_memory = filled
        torch.set_num_threads(threads)
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]
        os.environ.update(variables)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
