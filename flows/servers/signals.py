"""SIGTERM and Ctrl-C, heard at once where a process waits, and else when what it does is done."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

RAISED = {"TerminationSignal": signal.SIGTERM, "KeyboardInterrupt": signal.SIGINT}
"""What Prefect and Python raise where a signal comes."""
SOON = 0.1
"""Seconds until it is sent once more."""


@contextmanager
def heard_again() -> Iterator[None]:
    """Send a signal once more whose exception came up in a callback that lets none through, such as a weak reference's:
    it would be printed, and nothing would end."""
    before = sys.unraisablehook

    def hook(lost: Any) -> None:
        number = RAISED.get(type(lost.exc_value).__name__)
        if number is None:
            before(lost)
            return
        again = threading.Timer(SOON, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


class Ended(BaseException):
    """A wait was ended by a signal."""


class End:
    """Whether this process was told to end.

    >>> end = End()
    >>> with end.heard():
    ...     while not end.is_told:
    ...         with suppress(Ended), end.interrupts():
    ...             time.sleep(60)
    """

    def __init__(self) -> None:
        self.is_told = False
        self._interrupts = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Hear signals in the block, which no longer end the process by themselves."""
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def interrupts(self) -> Iterator[None]:
        """A wait that a signal ends.

        Raises:
            Ended: by a signal, or there was one before.
        """
        self._interrupts = True
        try:
            if self.is_told:
                raise Ended
            yield
        finally:
            self._interrupts = False

    def _hear(self, *_: object) -> None:
        self.is_told = True
        if self._interrupts:
            raise Ended
