"""Batches that are made ahead of whoever computes with them, by a thread or by processes.

Python's threads wait for each other at every small image: on a machine with 16 cores one of them fitted 5,400 images of
CIFAR-10 a second, and 16 together 3,000. Where the network itself takes the cores, that is no matter, for one thread
keeps up with it; a GPU would be left waiting.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from tasks.errors import HeadstartError
from tasks.progress import tell

Order = TypeVar("Order")
Make = Callable[[Order], torch.Tensor]

AHEAD = 2
"""Batches that each maker may be ahead."""

SHARED_MEMORY = Path("/dev/shm")
"""Where processes hand batches on (Linux); containers have 64 MiB there unless they are given more."""


def made_ahead(make: Make[Order], orders: Iterable[Order], processes: int = 0, size: int = 0) -> Iterator[torch.Tensor]:
    """What ``make`` gives for each of the orders, in their order, where a GPU can fetch it by itself.

    Args:
        orders: taken from as they are needed, here and not in a process.
        processes: how many make them; 0 for one thread.
        size: bytes of what is made of an order, for processes need room to hand it on.

    Raises:
        HeadstartError: what ``make`` raised.
    """
    if processes and (fitting := min(processes, _room() // max(1, size * (AHEAD + 1)))):
        yield from _by_processes(make, orders, fitting)
        return
    if processes:
        tell(f"decode\tone thread decodes, for {SHARED_MEMORY} is too small for processes (docker run --shm-size=8g)")
    yield from _by_thread(make, orders)


def _room() -> int:
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0


def _by_thread(make: Make[Order], orders: Iterable[Order]) -> Iterator[torch.Tensor]:
    coming = iter(orders)
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[torch.Tensor]] = deque()
        try:
            waiting.extend(thread.submit(make, order) for order in islice(coming, AHEAD))
            while waiting:
                made = waiting.popleft().result()
                waiting.extend(thread.submit(make, order) for order in islice(coming, 1))
                yield made
        finally:
            for future in waiting:
                future.cancel()


def _by_processes(make: Make[Order], orders: Iterable[Order], processes: int) -> Iterator[torch.Tensor]:
    loader: DataLoader[torch.Tensor] = DataLoader(
        _Made(make), batch_sampler=orders, collate_fn=_as_it_is, num_workers=processes, prefetch_factor=AHEAD,  # type: ignore[arg-type]
        pin_memory=torch.cuda.is_available(), multiprocessing_context="fork",
    )  # fmt: skip
    for made in loader:
        if isinstance(made, HeadstartError):
            raise made
        yield made


class _Made(Dataset[torch.Tensor]):
    """Answers orders where `DataLoader` expects a batch's indices."""

    def __init__(self, make: Make[Any]) -> None:
        self.make = make

    def __getitems__(self, order: Any) -> torch.Tensor | HeadstartError:
        try:
            return self.make(order)
        except HeadstartError as error:  # raised there, it would come with a page about the process
            return error


def _as_it_is(made: Any) -> Any:
    return made
