"""How long work tells whoever watches how far it has come.

Compute code calls `progress`; it neither knows nor cares whether a terminal, a log file or nobody listens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

Advance = Callable[[int], None]


class Watcher(Protocol):
    """Receives the progress of long work."""

    def begin(self, what: str, total: int, unit: str) -> int:
        """Start a bar of ``total`` ``unit`` and return its handle."""

    def advance(self, bar: int, count: int) -> None:
        """Move the bar ``count`` units on."""

    def end(self, bar: int) -> None:
        """Close the bar."""

    def tell(self, line: str) -> None:
        """Say what has been done."""


_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Send the progress of everything done inside the ``with`` block to ``watcher``."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


@contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Advance]:
    """Report ``total`` units of long work.

    Yields a function to call with the number of units just finished.

    >>> with progress("decode", total=2, unit="img") as advance:
    ...     advance(1)
    ...     advance(1)
    """
    watcher = _watcher.get()
    if watcher is None:
        yield lambda count: None
        return
    bar = watcher.begin(what, total, unit)
    try:
        yield lambda count: watcher.advance(bar, count)
    finally:
        watcher.end(bar)


def tell(line: str) -> None:
    """Report a piece of work that is done."""
    if watcher := _watcher.get():
        watcher.tell(line)


@contextmanager
def hushed(level: int, *names: str) -> Iterator[None]:
    """Have loggers of libraries say nothing below a level until the block ends."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, each in zip(loggers, before, strict=True):
            logger.setLevel(each)
