"""How fast does a backbone learn here, and how fast in the loops that people write?

Images per second of training steps, all layers learning, decoding and random crops included; validation is not. Same
network, images, batch and size for all:

- the loop people write: `ImageFolder`, `DataLoader` with a worker for each core, random resized crop and flip, fp32,
  AdamW;
- the same in bf16 (autocast) and channels_last, which is what a practitioner makes of it;
- timm: its network, loader and optimiser, as its training script sets them up on a CPU; on a GPU with its prefetching
  loader, and what ``--amp --amp-dtype bfloat16 --channels-last`` sets.

Ours runs twice: with its defaults, which keep the statistics of batch norms as they were pretrained, and with
statistics that follow the images, as in all the others.

Command: python benchmarks/finetune.py [--steps 40] [--only mobilenet_v2 resnet18 vgg16]   (10 minutes on two cores)
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
from extract import DEVICE, IMAGENET_MEAN, IMAGENET_STD, ON_GPU, SHARED, TIMM, WORKERS, Table, machine, unpack
from learning_curves import part_of
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from tasks.extract.config import ExtractConfig
from tasks.extract.door import extract_features
from tasks.extract.weights import build_network
from tasks.ingest.config import IngestConfig
from tasks.ingest.door import ingest_images
from tasks.preprocess.config import PreprocessConfig
from tasks.preprocess.door import preview_recipe
from tasks.records import Dataset
from tasks.train.methods.full import Full
from tasks.train.task import Task
from tasks.train.tuning.run import tune
from tasks.workspace import Workspace

WORKS = {
    "mobilenet_v2": (96, 64),
    "timm/tf_efficientnet_lite0": (128, 64),
    "resnet18": (96, 64),
    "vgg16": (64, 64),
}
if ON_GPU:
    WORKS = {"mobilenet_v2": (128, 128), "resnet50": (224, 128), "vit_b_16": (224, 128)}
"""Side of the images, and images of a batch."""

BF16: dict[str, Any] = {"precision": lambda: torch.autocast(DEVICE.type, torch.bfloat16), "channels_last": True}


class Clock(Callback):
    """Seconds of the steps after the first few, in which memory is allocated."""

    def __init__(self, skipped: int) -> None:
        self.skipped, self.started, self.images = skipped, 0.0, 0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.global_step == self.skipped:
            self.started, self.images = now(), 0
        self.images += pl_module.batches.batch_size  # type: ignore[operator,union-attr]
        if trainer.global_step == trainer.max_epochs * trainer.num_training_batches:
            self.seconds = now() - self.started


def now() -> float:
    """Seconds, once the device has done what it was given."""
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter()


def ours(name: str, dataset: Dataset, size: int, batch: int, steps: int, **keys: Any) -> float:
    """Images per second of headstart's `full`."""
    workspace = Workspace.find()
    part = part_of(dataset, batch * steps // len(dataset.classes), 0, workspace.cache, batch, batch)
    preprocessed = preview_recipe(PreprocessConfig(size=size), part, workspace)
    asked = ExtractConfig(backbone=name, weights="random", compile="never")
    features = extract_features(asked, part, preprocessed, workspace)
    with tempfile.TemporaryDirectory(dir=workspace.cache) as folder:
        task = Task(part, preprocessed, features, Path(features.weights), Path(folder), 0)
        tune(Full(epochs=1, batch_size=batch, **keys), task, clock := Clock(skipped=5))
    return clock.images / clock.seconds


def loop(
    network: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], optimiser: torch.optim.Optimizer,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext, channels_last: bool = False,
) -> float:  # fmt: skip
    """Images per second of a plain training loop."""
    network.to(DEVICE).train()
    if channels_last:
        network.to(memory_format=torch.channels_last)
    count, started = 0, 0.0
    for step, (images, labels) in enumerate(batches):
        if step == 5:
            count, started = 0, now()
        images, labels = (each.to(DEVICE, non_blocking=True) for each in (images, labels))
        if channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with precision():
            loss = cross_entropy(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        count += len(images)
    return count / (now() - started)


def loader(folder: Path, size: int, batch: int, steps: int) -> DataLoader:
    """What a tutorial writes."""
    transform = v2.Compose([
        v2.ToImage(), v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip(),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ])  # fmt: skip
    images = ImageFolder(str(folder), transform)
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[: batch * steps].tolist()
    return DataLoader(
        Subset(images, chosen), batch, shuffle=True, num_workers=WORKERS, drop_last=True, pin_memory=ON_GPU
    )


def timm_loop(name: str, folder: Path, size: int, batch: int, steps: int) -> float:
    """timm's network, loader and optimiser."""
    import timm
    from timm.data import create_dataset, create_loader
    from timm.optim import create_optimizer_v2

    network = timm.create_model(TIMM.get(name, name.removeprefix("timm/")), num_classes=10).to(DEVICE)
    images = create_dataset("", root=str(folder), is_training=True)
    images = Subset(images, list(range(0, len(images), max(1, len(images) // (batch * steps))))[: batch * steps])
    images.transform = None  # type: ignore[attr-defined]
    data = create_loader(
        _Transformed(images), (3, size, size), batch, is_training=True, use_prefetcher=ON_GPU, num_workers=WORKERS,
        device=DEVICE,
    )  # fmt: skip
    return loop(network, data, create_optimizer_v2(network, opt="adamw", lr=1e-3), **(BF16 if ON_GPU else {}))


class _Transformed(torch.utils.data.Dataset):
    """A part of a dataset whose transform timm's loader sets."""

    def __init__(self, images: Subset) -> None:
        self.images, self.transform = images, None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, label = self.images[index]
        return self.transform(image), label  # type: ignore[misc]


def compare(name: str, folder: Path, dataset: Dataset, steps: int, table: Table) -> None:
    """Rows of a network: ours, and the peers'."""
    size, batch = WORKS[name]
    title = f"{name} at {size} px, batches of {batch}"
    rate = ours(name, dataset, size, batch, steps)
    alike = ours(name, dataset, size, batch, steps, batch_norm="update")
    table.row(f"**{title}: headstart**", f"{rate:,.0f}", "", "")
    table.row(f"{title}: headstart, batch norms updated", f"{alike:,.0f}", "", "")

    def plain(**how: Any) -> float:
        network = build_network(name, num_classes=10)
        optimiser = torch.optim.AdamW(network.to(DEVICE).parameters(), lr=1e-3)
        return loop(network, loader(folder, size, batch, steps), optimiser, **how)

    peers = {
        "DataLoader, fp32": plain,
        "DataLoader, bf16 channels_last": lambda: plain(**BF16),
        f"timm, {'bf16 channels_last' if ON_GPU else 'fp32'}": lambda: timm_loop(name, folder, size, batch, steps),
    }
    for what, peer in peers.items():
        slow = peer()
        table.row(f"{title}: {what}", f"{slow:,.0f}", f"{rate / slow:.2f}×", f"{alike / slow:.2f}×")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    print(machine())
    table = Table("a training step", "img/s", "ours is faster by", "with batch norms updated")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        os.environ["HEADSTART_WORKSPACE"] = scratch
        folder = unpack("cifar10-jpeg.tar.gz", Path(scratch)) / "train"
        source = {"archive": str(SHARED / "cifar10-jpeg.tar.gz")}
        dataset = ingest_images(IngestConfig.model_validate({"source": source}), Workspace.find(), into_data=False)
        for name in options.only:
            compare(name, folder, dataset, options.steps, table)


if __name__ == "__main__":
    main()
