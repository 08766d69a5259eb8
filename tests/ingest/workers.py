"""What worker processes run in tests; they import this module, and nothing that they do not need."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from tasks.ingest.examine import Examined, Work, examine_all
from tasks.limits import Limits

CRASHES = b"a file that crashes its decoder"


def crashing(works: Sequence[Work], limits: Limits, store: Path) -> list[Examined]:
    """Examine files with a decoder that crashes; leaves a file ``crashed`` in the workspace."""
    for work in works:
        if work.content == CRASHES:
            (store.parents[3] / "crashed").touch()
            os.kill(os.getpid(), signal.SIGSEGV)
    return examine_all(works, limits, store)


def logging(works: Sequence[Work], limits: Limits, store: Path) -> list[Examined]:
    """Examine files, and write their names to a file ``examined`` in the workspace."""
    with (store.parents[3] / "examined").open("a") as log:
        log.writelines(f"{Path(work.place or 'a member').name}\n" for work in works)
    return examine_all(works, limits, store)
