"""A pipeline's data, looked at every so often: names, sizes and times only.

A look is a process of its own, ``python -m flows.schedules.watching NAME``: a share that hangs does not hold the
scheduler up, and what reads tables and buckets is not in its memory.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field

from tasks.errors import HeadstartError
from tasks.workspace import Workspace

SETTLE = 10.0
"""Seconds until a second look at data that changed, which may be in the middle of being copied."""
LONGEST = 600.0
"""Seconds that a look may take."""


@dataclass
class Watch:
    """The data of one pipeline.

    Args:
        every: seconds between two looks.
        settled: what it is like, by the last two looks that agreed; empty: not known yet.
        trouble: why the last look saw nothing; empty: it saw what there is.
    """

    name: str
    every: float
    settled: str = ""
    trouble: str = ""
    _seen: str = ""
    _began: float = field(default=float("-inf"))
    _child: subprocess.Popen[str] | None = None

    def look(self, workspace: Workspace) -> None:
        """Look if it is time to, and take in what an earlier look saw; takes no time."""
        if self._child is not None:
            self._take_in(self._child)
        elif time.monotonic() - self._began >= self._pause:
            self._began = time.monotonic()
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, self.name], cwd=workspace.root, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            )  # fmt: skip

    def end(self) -> None:
        """End a look that is under way."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    @property
    def _pause(self) -> float:
        return self.every if self._seen == self.settled else min(self.every, SETTLE)

    def _take_in(self, child: subprocess.Popen[str]) -> None:
        if child.poll() is None:
            if time.monotonic() - self._began > LONGEST:
                self.end()
                self.trouble = f"looking at the data took longer than {LONGEST:.0f} s"
            return
        out, told = child.communicate()
        self._child = None
        if child.returncode:
            self.trouble = (told.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
            return
        self.trouble, before, self._seen = "", self._seen, out.strip()
        if self._seen == before:
            self.settled = self._seen


def main(name: str) -> int:
    """Print what the data of a schedule's pipeline is like; returns the exit code."""
    from flows.config import PipelineConfig, read_config
    from flows.schedules import store

    workspace = Workspace.find()
    try:
        schedule = store.read(name, workspace)
        config = read_config(workspace.root / schedule.config, schedule.overrides, PipelineConfig)
        print(config.ingest.state(workspace))
    except (HeadstartError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
