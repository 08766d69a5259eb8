"""Answers in time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.register.gating import Evidence, Finding, Gate


class LatencyLimit(Gate):
    """The packaged model answers 19 of 20 images within a time, one image at a time, on the machine of the run: from
    the bytes of a file to the probabilities."""

    gate: Literal["latency"] = "latency"
    p95: float = Field(gt=0)
    """Milliseconds."""

    def measure(self, evidence: Evidence) -> Finding:
        found = evidence.latency
        told = f"p95 {found.p95:.1f} ms, p50 {found.p50:.1f} ms over {found.images:,} images on {found.device}"
        return Finding(found.p95 <= self.p95, told, f"at most {self.p95:g} ms", f"{found.p95:.1f} ms")
