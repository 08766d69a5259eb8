"""What every record has: a name of its content, when it was made, and the files that it is worth nothing without."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


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

    def files(self) -> list[Path]:
        """The files without which this record is worth nothing."""
        return [value for _, value in self if isinstance(value, Path)]

    def is_complete(self) -> bool:
        """Whether those files are there, as they were."""
        return all(path.exists() for path in self.files())
