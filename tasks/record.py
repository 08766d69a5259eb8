"""What every record has: a name of its content, when it was made, and the files that it is worth nothing without."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from tasks.place import note_used, was_repaired


class Record(BaseModel):
    """Base of all records.

    Attributes:
        fingerprint: names the content; equal fingerprints, equal content.
        made: when, in seconds since the epoch. A record older than the run that hands it on was found in a
            cache.
        took: seconds that the stage worked, when it was made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    made: float = Field(default_factory=time.time)
    took: float = 0.0

    @property
    def spaces(self) -> list[Path]:
        """Folders of features that are read through this record."""
        return []

    def files(self) -> list[Path]:
        """The files and folders without which this record is worth nothing."""
        return [value for _, value in self if isinstance(value, Path)] + self.spaces

    def is_complete(self) -> bool:
        """Whether those are there, as they were."""
        there = all(path.exists() for path in self.files())
        return there and not any(was_repaired(folder, self.made) for folder in self.spaces)

    def note_use(self) -> None:
        """Have what is read through this record count as used just now."""
        for folder in self.spaces:
            note_used(folder)
