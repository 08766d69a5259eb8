"""Batches of images to learn from, made ready by threads while the network computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tasks.preprocess.pictures import Augment, Pictures
from tasks.train.targets import Balance, order_of


@dataclass
class Batches:
    """Shuffled batches of random views: uint8 ``[N, 3, S, S]`` with targets. The last, smaller batch is left out.

    Order and views of an epoch depend on the seed and the epoch's number alone, so a training that is picked up again,
    or that several processes share, sees what an unbroken one sees.

    Attributes:
        sizes: side of the views at the end of as many equal parts of the training (progressive resizing, Howard 2018).
        share: of each batch, (rank, of how many): what this process computes.
        makers: threads that make batches. A network on a CPU needs the cores itself, and one thread keeps up with it.
        pinned: whether batches lie where a GPU can fetch them by itself.
    """

    pictures: Pictures
    targets: torch.Tensor
    classes: int
    batch_size: int
    epochs: int
    sizes: tuple[int, ...]
    augment: Augment
    least: float
    balance: Balance
    seed: int
    epoch: int = 0
    share: tuple[int, int] = (0, 1)
    makers: int = 1
    pinned: bool = False

    def __len__(self) -> int:
        return max(1, len(self.targets) // self.batch_size)

    @property
    def size(self) -> int:
        """Side of this epoch's views, pixels."""
        return self.sizes[self.epoch * len(self.sizes) // self.epochs]

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        rank, count = self.share
        epoch, size, ahead = self.epoch, self.size, self.makers + 1
        chosen = self._order(epoch).split(self.batch_size)[: len(self)]
        coming: deque[Future[torch.Tensor]] = deque()
        with self._threads() as threads:
            try:
                for number in range(len(chosen) + ahead):
                    if number < len(chosen):
                        coming.append(threads.submit(self._views, chosen[number], epoch, number, size))
                    if number >= ahead:
                        images = coming.popleft().result()
                        yield images, self.targets[chosen[number - ahead][rank::count]]
            finally:
                for future in coming:
                    future.cancel()

    @contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        """The makers; of several, each works alone on its batch, so that they do not wait for each other's parts."""
        before = torch.get_num_threads()
        alone = (torch.set_num_threads, (1,)) if self.makers > 1 else (None, ())
        try:
            with ThreadPoolExecutor(self.makers, "makers", *alone) as threads:
                yield threads
        finally:
            torch.set_num_threads(before)

    def _order(self, epoch: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + epoch)
        return order_of(self.targets, self.classes, self.balance, generator)

    def _views(self, indices: torch.Tensor, epoch: int, number: int, size: int) -> torch.Tensor:
        rank, count = self.share
        views = []
        for place in range(rank, len(indices), count):
            draw = np.random.default_rng([self.seed, epoch, number, place])
            views.append(self.pictures.random(int(indices[place]), size, self.augment, self.least, draw))
        batch = torch.stack(views)
        return batch.pin_memory() if self.pinned else batch

    def __deepcopy__(self, memo: Any) -> Batches:
        # A running average is a copy of what learns from them: it needs no pixels of its own.
        return self


@dataclass
class Squares:
    """All images in their order as they are looked at once training is over, with targets; `Batches` without chance."""

    pictures: Pictures
    targets: torch.Tensor
    batch_size: int = 128

    def __len__(self) -> int:
        return -(-len(self.targets) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for indices in torch.arange(len(self.targets)).split(self.batch_size):
            yield torch.stack([self.pictures.square(index) for index in indices.tolist()]), self.targets[indices]
