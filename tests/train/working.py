"""What a process does that shares a training, as far as the tests of `test_ranks` need it."""

from __future__ import annotations

import time

from tasks.train.tuning.ranks import Rank


def work(where: str, rank: Rank) -> None:
    if where == "at once":
        raise ValueError("broken at once")
    rank.meet()
    if where == "later":
        raise ValueError("broken later")
    if where == "waits":
        time.sleep(300)
