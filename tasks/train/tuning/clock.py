"""The time that a training may take, and how much of it has passed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

SLACK = 1.2
"""What the validation that is still to come is reckoned to take, for what the last one took."""

ENDS: ContextVar[float | None] = ContextVar("ends", default=None)
"""When all trainings with a limit end at the latest, by `time.monotonic`."""


@contextmanager
def ending_after(seconds: float | None) -> Iterator[None]:
    """Have trainings that have a limit end in so many seconds, however much of it is left: one that is picked up again
    after a kill takes what it has learned, and has no more time than whoever asked for it."""
    token = ENDS.set(None if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        ENDS.reset(token)


class Clock:
    """Runs from the beginning of a training, through kills: what passed before the last checkpoint counts.

    Attributes:
        limit: seconds that the training may take; None: as many as it needs.
        validation: seconds of the last look at the validation images; 0 before the first.
        guess: what the first one is reckoned to take.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.limit, self.validation, self.guess = limit, 0.0, 0.0
        self._began, self._ends = time.monotonic(), ENDS.get()

    @property
    def passed(self) -> float:
        """Seconds of training until now."""
        return time.monotonic() - self._began

    @property
    def share(self) -> float:
        """How much of the time for learning has passed, from 0 to 1; validation comes after it."""
        if self.limit is None:
            return 0.0
        limit = self.limit if self._ends is None else min(self.limit, self._ends - self._began)
        return min(1.0, self.passed / max(1e-9, limit - SLACK * (self.validation or self.guess)))

    def go_on_from(self, passed: float, validation: float) -> None:
        """Count seconds that passed before a kill, in place of those since this process began to train."""
        self._began, self.validation = time.monotonic() - passed, validation
