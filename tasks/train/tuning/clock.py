"""The time that a training may take, and how much of it has passed."""

from __future__ import annotations

import time

SLACK = 1.2
"""What the validation that is still to come is reckoned to take, for what the last one took."""


class Clock:
    """Runs from the beginning of a training, through kills: what passed before the last checkpoint counts.

    Attributes:
        limit: seconds that the training may take; None: as many as it needs.
        validation: seconds of a look at the validation images, by the last one or, before there was one, a guess.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.limit, self.validation = limit, 0.0
        self._began = time.monotonic()

    @property
    def passed(self) -> float:
        """Seconds of training until now."""
        return time.monotonic() - self._began

    @property
    def share(self) -> float:
        """How much of the time for learning has passed, from 0 to 1; validation comes after it."""
        if self.limit is None:
            return 0.0
        return min(1.0, self.passed / max(1e-9, self.limit - SLACK * self.validation))

    def go_on_from(self, passed: float) -> None:
        """Count seconds that passed before a kill, in place of those since this process began to train."""
        self._began = time.monotonic() - passed
