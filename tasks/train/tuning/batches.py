"""Batches of images to learn from, made ready while the network computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tasks.preprocess.kinds import Augment
from tasks.preprocess.loading import made_ahead
from tasks.preprocess.pictures import Pictures, Squares, Views
from tasks.train.kinds import Balance
from tasks.train.targets import order_of


@dataclass
class Batches:
    """Shuffled batches of random views: uint8 ``[N, 3, S, S]`` with targets. The last, smaller batch is left out.

    Pictures beyond those that have targets stand behind the others in a batch, as many of the one as of the other, and
    so ``[2 N, 3, S, S]``; an epoch is a pass over those with targets.

    Order and views of an epoch depend on the seed and the epoch's number alone, so a training that is picked up again,
    or that several processes share, sees what an unbroken one sees.

    Attributes:
        sizes: side of the views in as many equal parts of the training, in pixels (progressive resizing, Howard 2018).
        share: of each batch, (rank, of how many): what this process computes.
        processes: that make batches; 0 for a thread. A network on a CPU needs the cores itself.
        over: share of the training that is over where time passes faster than steps do, from 0 to 1.
    """

    pictures: Pictures | Views
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
    processes: int = 0
    over: float = 0.0

    def __len__(self) -> int:
        return max(1, len(self.targets) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        rank, count = self.share
        order = self._order(self.epoch)
        orders = ((indices, self.epoch, number, self._size(number)) for number, indices in enumerate(order))
        bytes_of_a_batch = 3 * max(self.sizes) ** 2 * self._parts * -(-self.batch_size // count)
        made = made_ahead(self._views, orders, self.processes, bytes_of_a_batch)
        for indices, images in zip(order, made, strict=True):
            yield images, self.targets[indices[: len(indices) // self._parts][rank::count]]

    def _size(self, number: int) -> int:
        """Side of the views in a batch of this epoch, pixels."""
        parts, steps = len(self.sizes), self.epochs * len(self)
        part = max((self.epoch * len(self) + number) * parts // steps, int(self.over * parts))
        return self.sizes[min(part, parts - 1)]

    @property
    def _parts(self) -> int:
        """Of a batch: those with targets and, where there are some, those without."""
        return 1 + (len(self.pictures) > len(self.targets))

    def _order(self, epoch: int) -> list[torch.Tensor]:
        """Pictures of an epoch by number, batch by batch."""
        generator = torch.Generator().manual_seed(self.seed * 100_003 + epoch)
        order = order_of(self.targets, self.classes, self.balance, generator)
        batches = list(order.split(self.batch_size)[: len(self)])
        if not (others := len(self.pictures) - len(self.targets)):
            return batches
        # Where they are fewer, all of them come once before any comes again.
        rounds = [torch.randperm(others, generator=generator) for _ in range(-(-len(order) // others))]
        beside = (len(order) + torch.cat(rounds)[: len(order)]).split(self.batch_size)
        return [torch.cat(pair) for pair in zip(batches, beside, strict=False)]

    def _views(self, order: tuple[torch.Tensor, int, int, int]) -> torch.Tensor:
        (rank, count), (indices, epoch, number, size) = self.share, order
        views = []
        for part in torch.arange(len(indices)).chunk(self._parts):
            for place in part[rank::count].tolist():
                draw = np.random.default_rng([self.seed, epoch, number, place])
                views.append(self.pictures.random(int(indices[place]), size, self.augment, self.least, draw))
        return torch.stack(views)

    def __deepcopy__(self, memo: Any) -> Batches:
        # A running average is a copy of what learns from them: it needs no pixels of its own.
        return self


@dataclass
class HeldOut:
    """The images that choices are made on, in their order, with targets; `Batches` without chance."""

    squares: Squares
    targets: torch.Tensor
    batch_size: int = 128

    def __len__(self) -> int:
        return -(-len(self.targets) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for indices in torch.arange(len(self.targets)).split(self.batch_size):
            yield torch.stack([self.squares[index] for index in indices.tolist()]), self.targets[indices]
