"""What is said where Ctrl-C ends a command."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells know it."""

FROM_HERE = "the same command goes on from here"
GOES_ON = {
    ("run",): FROM_HERE,
    ("predict",): FROM_HERE,
    ("pretrain",): "the same command goes on after the last epoch that was over",
    ("rank",): "the same command goes on from here, with the features that are computed",
    ("suggest",): FROM_HERE,
    ("data", "ingest"): FROM_HERE,
}
"""What becomes of the work, by command; others have none that goes on, or are meant to end so."""


def then_after(words: Sequence[str]) -> str | None:
    """What becomes of the work of a command that Ctrl-C ended; None where none was under way that goes on."""
    return next((then for command, then in GOES_ON.items() if list(words[: len(command)]) == list(command)), None)


@contextmanager
def noting(goes_on: bool) -> Iterator[list[int]]:
    """Note Ctrl-C, which interrupts as it does: in the middle of an import, libraries make other errors of it.

    Args:
        goes_on: whether the command is of those whose work goes on; else nothing is changed.
    """
    noted: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        noted.append(number)
        signal.default_int_handler(number, frame)

    # Whoever began this may want it ignored.
    if not goes_on or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield noted
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield noted
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
