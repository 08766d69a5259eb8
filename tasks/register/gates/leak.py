"""Figures that are not inflated by images much like those that were learned from."""

from __future__ import annotations

from typing import Literal

from tasks.register.gating import Evidence, Finding, Gate


class LeakCheck(Gate):
    """No evaluated split has so many near neighbours among the images that were learned from that its figure is not to
    be believed: inflated by more than a point and more than chance explains, or more than half of the images (see
    docs/evaluation.md, Leaks)."""

    gate: Literal["leak"] = "leak"

    def measure(self, evidence: Evidence) -> Finding:
        leaks = evidence.evaluation.leaks
        asked = "inflated by at most 0.01"
        for split in dict.fromkeys((evidence.dataset.choose_on, evidence.dataset.report_on, *leaks)):
            if split in leaks and leaks[split].is_material:
                leak = leaks[split]
                return Finding(False, f"{split}: {leak.told}", asked, f"{leak.inflation[0]:.4f}")
        return Finding(True, "no figure is inflated by images like those learned from", asked)
