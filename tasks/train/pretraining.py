"""Supervised pretraining of a backbone on a source task, from pixels held in memory.

Lightning runs the loop: precision, checkpoints, resume. Augmentation works on whole batches, on the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn

from tasks.machine import freed_memory_kept
from tasks.progress import Advance, progress
from tasks.train.loop import interruptible, quiet


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to train: SGD with Nesterov momentum under a one-cycle learning rate
    (Smith & Topin 2018, "Super-convergence"), label smoothing (Szegedy et al. 2016)."""

    epochs: int = 40
    batch_size: int = 256
    learning_rate: float = 0.2
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    grayscale: float = 0.1
    seed: int = 0


def augment(images: torch.Tensor, generator: torch.Generator, *, pad: int = 4, grayscale: float = 0.1) -> torch.Tensor:
    """Random shift by up to ``pad`` pixels (reflected borders), horizontal flip and, for a share ``grayscale``
    of the images, removal of colour; each drawn per image. uint8 ``[N, 3, H, W]`` in and out."""
    n, _, height, width = images.shape
    padded = nn.functional.pad(images.float(), [pad] * 4, mode="reflect").to(torch.uint8)
    rows = torch.randint(2 * pad + 1, (n, 1), generator=generator) + torch.arange(height)
    columns = torch.randint(2 * pad + 1, (n, 1), generator=generator) + torch.arange(width)
    flipped = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    index = torch.arange(n)[:, None, None]
    shifted = padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    grey = torch.rand(n, generator=generator) < grayscale
    # ITU-R BT.601 luma, the weights Pillow and torchvision use.
    luma = (shifted[grey].float() * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    shifted[grey] = luma.round().to(torch.uint8).expand(-1, 3, -1, -1)
    return shifted


class Batches:
    """Iterates over labelled pixels in memory; in training, shuffled, augmented and without the last, partial batch.

    The order and the augmentation of an epoch depend on the seed and the epoch's number alone, so a resumed
    run sees what an unbroken one would have seen.
    """

    def __init__(self, pixels: torch.Tensor, labels: torch.Tensor, schedule: Schedule, *, training: bool) -> None:
        self.pixels, self.labels, self.schedule, self.training = pixels, labels, schedule, training
        self.epoch = 0

    def __len__(self) -> int:
        full, rest = divmod(len(self.labels), self.schedule.batch_size)
        return full if self.training else full + bool(rest)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        generator = torch.Generator().manual_seed(self.schedule.seed * 100_003 + self.epoch)
        n = len(self.labels)
        order = torch.randperm(n, generator=generator) if self.training else torch.arange(n)
        for chosen in order.split(self.schedule.batch_size)[: len(self)]:
            images = self.pixels[chosen]
            if self.training:
                images = augment(images, generator, grayscale=self.schedule.grayscale)
            yield images, self.labels[chosen]


class SupervisedPretraining(L.LightningModule):
    """Cross-entropy training of ``network`` on standardised pixels."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, network: nn.Module, schedule: Schedule, steps: int, mean: torch.Tensor, std: torch.Tensor
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.schedule, self.steps = schedule, steps
        self.register_buffer("mean", mean.view(1, 3, 1, 1))
        self.register_buffer("std", std.view(1, 3, 1, 1))
        self.loss = nn.CrossEntropyLoss(label_smoothing=schedule.label_smoothing)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class logits ``[N, classes]`` for uint8 images ``[N, 3, H, W]``."""
        pixels = (images.float() / 255 - self.mean) / self.std
        return self.network(pixels.contiguous(memory_format=torch.channels_last))

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        images, labels = batch
        loss = self.loss(self(images), labels)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> None:
        images, labels = batch
        correct = (self(images).argmax(1) == labels).float().mean()
        self.log("val/accuracy", correct, batch_size=len(labels))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        matrices = [p for p in self.parameters() if p.ndim > 1]
        vectors = [p for p in self.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": self.schedule.weight_decay},
            {"params": vectors},
        ]
        optimizer = torch.optim.SGD(
            groups,
            lr=self.schedule.learning_rate,
            momentum=0.9,
            nesterov=True,
        )
        # Weight decay on biases and batch-norm scales only hurts (He et al. 2019), hence the two groups.
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.schedule.learning_rate, total_steps=self.steps, pct_start=0.2, cycle_momentum=False
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class _ReportProgress(L.Callback):
    """Advances the progress bar by a batch, and gives the loader its epoch number."""

    def __init__(self, loader: Batches, advance: Advance) -> None:
        self.loader, self.advance = loader, advance

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.loader.epoch = trainer.current_epoch

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        self.advance(self.loader.schedule.batch_size)


def pretrain_supervised(
    network: nn.Module,
    train: tuple[torch.Tensor, torch.Tensor],
    val: tuple[torch.Tensor, torch.Tensor],
    schedule: Schedule,
    folder: Path,
) -> tuple[nn.Module, float, tuple[list[float], list[float]]]:
    """Train ``network`` from scratch and leave checkpoints and curves in ``folder``.

    Killed at any epoch, a second call with the same folder goes on from the last one.

    Args:
        train, val: pixels uint8 ``[N, 3, H, W]`` and labels int64 ``[N]``.
        folder: for ``last.ckpt`` and ``metrics.csv``.

    Returns:
        The trained network (on CPU, eval mode), its accuracy on ``val`` after the last epoch, and the mean
        and standard deviation per channel (in units of 1/255) that its inputs were standardised with.
    """
    L.seed_everything(schedule.seed, verbose=False)
    sample = train[0].float() / 255
    mean, std = sample.mean((0, 2, 3)), sample.std((0, 2, 3))
    del sample

    loader = Batches(*train, schedule, training=True)
    steps = schedule.epochs * len(loader)
    module = SupervisedPretraining(network, schedule, steps, mean, std)
    module.network.compile()  # in place: the names in the state dict stay as they are
    last = folder / "last.ckpt"
    with (
        quiet(),
        freed_memory_kept(),
        progress("pretrain", total=steps * schedule.batch_size, unit="img") as advance,
    ):
        trainer = L.Trainer(
            max_epochs=schedule.epochs,
            precision="bf16-mixed",
            callbacks=[
                _ReportProgress(loader, advance),
                ModelCheckpoint(folder, filename="last", save_top_k=1, enable_version_counter=False),
            ],
            logger=CSVLogger(folder, name=None, version=""),
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        held_out = Batches(*val, schedule, training=False)
        resumed = last if last.is_file() else None
        with interruptible():
            trainer.fit(module, loader, held_out, ckpt_path=resumed, weights_only=True)
            (measured,) = trainer.validate(module, held_out, verbose=False)
    return module.network.cpu().eval(), measured["val/accuracy"], (mean.tolist(), std.tolist())
