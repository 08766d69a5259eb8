"""Processes that share the batches of a training, one for each device; the first is the one that asks for it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Semaphore
from typing import Any, Literal

import torch
from torch.multiprocessing import get_context, start_processes

from tasks.errors import ConfigurationError

FAREWELL = 3.0
"""Seconds in which a helper that broke down can say why."""


@dataclass(frozen=True)
class Rank:
    """One of ``count`` processes.

    Attributes:
        number: from 0.
        port: of this machine, on which they find each other.
        meet: says that this process is ready; the first one waits there for the others.
    """

    number: int
    count: int
    port: int
    meet: Callable[[], None]


def count_devices(asked: int | Literal["auto"], device: torch.device) -> int:
    """As many as are asked for, or as there are: one where the device has a number. Processes on a CPU share its cores.

    Raises:
        ConfigurationError: more GPUs are asked for than there are.
    """
    there = max(1, torch.cuda.device_count()) if device.type == "cuda" and device.index is None else 1
    if asked == "auto":
        return there
    if device.type != "cpu" and asked > there:
        raise ConfigurationError(
            f"train.devices asks for {asked} {device.type} devices, and extract.device ({device}) has {there} here: "
            "take auto, which takes all"
        )
    return asked


@contextmanager
def shared_by(count: int, work: Callable[..., None], *arguments: Any) -> Iterator[Rank]:
    """Have ``count`` - 1 new processes call ``work(*arguments, rank)``; yields the rank of this one, to do the same.

    So what watches a training in this process, and whoever is told how far it has come, is where it was. When this
    process breaks down or is killed, so do the others.
    """
    if count == 1:
        yield Rank(0, 1, 0, lambda: None)
        return
    ready = get_context("spawn").Semaphore(0)
    port = _free_port()
    helpers = start_processes(
        _help, (work, arguments, count, port, ready), count - 1, join=False, start_method="spawn"
    )  # fmt: skip

    def meet() -> None:
        for _ in range(count - 1):
            while not ready.acquire(timeout=0.2):
                helpers.join(timeout=0)  # raises what broke one down

    try:
        yield Rank(0, count, port, meet)
        while not helpers.join():
            pass
    except RuntimeError:
        # Often no more than that the connection to a helper was lost.
        helpers.join(timeout=FAREWELL)
        raise
    finally:
        for process in helpers.processes:
            process.kill()
            process.join()


def _help(
    number: int, work: Callable[..., None], arguments: tuple[Any, ...], count: int, port: int, ready: Semaphore
) -> None:
    work(*arguments, Rank(number + 1, count, port, ready.release))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
