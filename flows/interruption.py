"""What is said where Ctrl-C ends a command."""

from __future__ import annotations

from collections.abc import Sequence

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
