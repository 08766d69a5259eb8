"""Names for content: equal content has equal fingerprints, on every machine."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

LENGTH = 16
"""Hex digits of a fingerprint (64 bits)."""


def fingerprint(*parts: Any) -> str:
    """Fingerprint of JSON-like values, independent of the order of keys."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:LENGTH]


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file's content, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


@cache
def code_version(folder: Path) -> str:
    """Fingerprint of the Python sources in a folder, so that changed code never meets an old cache."""
    sources = sorted(folder.rglob("*.py"))
    return fingerprint([(source.relative_to(folder).as_posix(), file_digest(source)) for source in sources])


class RunningFingerprint:
    """Fingerprint of a sequence too long to be held at once."""

    def __init__(self, *parts: Any) -> None:
        self._digest = hashlib.sha256()
        self.add(*parts)

    def add(self, *parts: Any) -> None:
        """Take in the next element, made of JSON-like values."""
        self._digest.update(json.dumps(parts, default=str).encode("ascii") + b"\n")

    @property
    def value(self) -> str:
        """The fingerprint of everything added so far."""
        return self._digest.hexdigest()[:LENGTH]
