"""A budget of time, counted from the command that was given it."""

from __future__ import annotations

import time
from contextvars import ContextVar

BEGAN: ContextVar[float | None] = ContextVar("began", default=None)
"""When the command of this process began, in seconds since the epoch, where it is a command that runs a pipeline."""


def begin_with_the_process() -> None:
    """Count from when this process was started: imports, looks at the workspace and a server's start take time, too."""
    import psutil  # which `--help` does without

    BEGAN.set(psutil.Process().create_time())


class Budget:
    """Seconds that there are, and those that are spent.

    Args:
        before: seconds that earlier starts of the same work have spent.
        began: when the work began, in seconds since the epoch, where no command of this process was given it; else now.
    """

    def __init__(self, seconds: float, before: float = 0.0, began: float | None = None) -> None:
        self.seconds, self._before = seconds, before
        self._began = BEGAN.get() or began or time.time()

    @property
    def spent(self) -> float:
        return self._before + time.time() - self._began

    @property
    def left(self) -> float:
        return self.seconds - self.spent
