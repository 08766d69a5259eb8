"""Notes of a run within a budget: each step when it begins and when it is over, so that a kill loses none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

from tasks.choice import Choice
from tasks.fingerprint import fingerprint
from tasks.train.anytime.step import Step
from tasks.workspace import fresh_folder, write_whole

OFTEN = 5.0
"""Seconds between notes of the time while a step is at work."""


class Notes:
    """The steps of a run in a file, and the seconds that were spent on them.

    What a smaller budget had left out is forgotten, so that it is thought of again; so is what failed, which may have
    been the machine's fault.

    Attributes:
        done: steps that are over, in order.
        unfinished: the step that was at work when the notes were written last.
        spent: seconds until then, of all starts.
    """

    def __init__(self, path: Path, budget: float) -> None:
        self.path, self.budget = path, budget
        self.done: list[Step] = []
        self.unfinished: Step | None = None
        self.spent = 0.0
        if path.is_file():
            kept = json.loads(path.read_text())
            self.spent = kept["spent"]
            steps = [Step(**row) for row in kept["steps"]]
            again = budget > kept["budget"]
            gone = ("failed", "left out") if again else ("failed",)
            self.done = [step for step in steps if step.is_over and step.state not in gone]
            self.unfinished = next((step for step in steps if not step.is_over), None)

    def begin(self, step: Step, spent: float) -> Step:
        """Note that a step begins; returns it as begun."""
        self.unfinished = replace(step, state="begun")
        self._write(spent)
        return self.unfinished

    @contextmanager
    def kept_up(self, spent: Callable[[], float], took: Callable[[], float]) -> Iterator[None]:
        """Note every few seconds of the block how many are spent, and how many the step at work took of them, so that a
        kill does not give them back."""
        over = Event()

        def keep_up() -> None:
            while not over.wait(OFTEN):
                assert self.unfinished is not None
                self.unfinished = replace(self.unfinished, took=took())
                with suppress(OSError):  # a full disk is told of where something is lost by it
                    self._write(spent())

        thread = Thread(target=keep_up, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def end(self, steps: Sequence[Step], spent: float) -> None:
        """Note what became of the step at work."""
        self.done += steps
        self.unfinished = None
        self._write(spent)

    def _write(self, spent: float) -> None:
        self.spent = spent
        steps = [*self.done, *filter(None, [self.unfinished])]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = {"budget": self.budget, "spent": spent, "steps": [step.as_row() for step in steps]}
        write_whole(self.path, json.dumps(kept))

    def choice(self, chosen: Step, cache: Path) -> Choice:
        """What is on record of all this: the table, and what was chosen."""
        import pandas as pd  # which a run that only plans does without

        rows = [step.as_row() for step in self.done]
        name = fingerprint(rows, chosen.as_row(), self.budget)
        final = cache / "choices" / name
        with fresh_folder(final) as folder:
            pd.DataFrame(rows).to_parquet(folder / "steps.parquet", index=False)
        return Choice(
            fingerprint=name, steps=final / "steps.parquet", backbone=chosen.backbone, method=chosen.method,
            why=chosen.why, budget=self.budget, spent=self.spent,
        )  # fmt: skip
