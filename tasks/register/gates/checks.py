"""Data without findings of some kinds."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field, field_validator

from tasks.ingest.kinds import KINDS
from tasks.register.gating import Evidence, Finding, Gate


class Checks(Gate):
    """Ingestion found nothing of some kinds in the data, or not more than a limit (`checks.json`; docs/data.md has the
    kinds)."""

    gate: Literal["checks"] = "checks"
    findings: list[str] = Field(default=["conflicting_label", "straddling", "near_straddling"], min_length=1)
    """Kinds that are counted."""
    at_most: int = Field(default=0, ge=0)
    """Findings that are let through, of all these kinds together."""
    kept_out: bool = False
    """Whether images count, too, that were kept out of the dataset for it."""

    @field_validator("findings")
    @classmethod
    def _known(cls, named: list[str]) -> list[str]:
        for kind in named:
            if kind not in KINDS:
                raise ValueError(f"there is no kind of finding {kind!r}; known: {', '.join(KINDS)}")
        return named

    def measure(self, evidence: Evidence) -> Finding:
        found = json.loads((evidence.dataset.report / "checks.json").read_text(encoding="utf-8"))["findings"]
        counts = {
            kind: found[kind]["count"]
            for kind in self.findings
            if kind in found and (self.kept_out or found[kind]["policy"] != "quarantine")
        }
        told = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count) or "none found"
        asked, total = f"at most {self.at_most:,} of {', '.join(self.findings)}", sum(counts.values())
        return Finding(total <= self.at_most, f"findings in the data: {told}", asked, f"{total:,}")
