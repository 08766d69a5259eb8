"""Probabilities that mean what they say."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.register.gating import Evidence, Finding, Gate, unopposed


class Calibration(Gate):
    """The expected calibration error on the held-out images (of a number, how far the shares of images within their
    intervals are from the levels of these) is below a limit or, where none is named, not worse than
    the champion's, by the interval of the difference on the same images."""

    gate: Literal["calibration"] = "calibration"
    ece: float | None = Field(default=None, ge=0, le=1)
    """The most that it may be."""

    def measure(self, evidence: Evidence) -> Finding:
        figure = "calibration_error" if evidence.dataset.target.kind == "number" else "ece"
        name = f"{evidence.dataset.report_on}/{figure}"
        if self.ece is not None:
            value, low, high = evidence.evaluation.metrics[name]
            told = f"{name} {value:.4f} [{low:.4f}, {high:.4f}]"
            return Finding(value <= self.ece, told, f"at most {self.ece:g}", f"{value:.4f}")
        comparison = evidence.comparison
        asked = "not worse than the champion's"
        if comparison is None:
            return unopposed(asked)
        if name not in comparison.metrics:
            return Finding(None, "no held-out image that neither has learned from", asked, against=comparison.version)
        ours, theirs, difference, low, high = comparison.metrics[name]
        told = f"{name} {ours:.4f}, the champion's {theirs:.4f}: {difference:+.4f} [{low:+.4f}, {high:+.4f}]"
        passed = None if low != low else not low > 0
        return Finding(passed, told, asked, f"{difference:+.4f}", against=comparison.version)
