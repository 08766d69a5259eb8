"""Answers that bear blur, noise, frost and the like."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from tasks.register.gating import Evidence, Finding, Gate


class Robustness(Gate):
    """Of what is right on clean held-out images, enough is right on corrupted ones, on the mean over all corruptions
    and severities; of a number, the mean absolute error on clean images is that share at least of the one on corrupted
    ones. `evaluate.robustness` says on how many images that is measured."""

    gate: Literal["robustness"] = "robustness"
    share: float = Field(default=0.5, gt=0, le=1)
    """Of the clean accuracy that is left, at least."""

    def measure(self, evidence: Evidence) -> Finding:
        import pandas as pd

        asked, inspection = f"at least {self.share:g}", evidence.inspection
        name = f"{evidence.dataset.report_on}/robustness"
        if inspection is None or name not in inspection.metrics:
            return Finding(None, "corruptions were not measured: evaluate.robustness: 64 does so", asked)
        table = pd.read_csv(inspection.report / "robustness.csv", keep_default_na=False)
        figure = next(name for name in ("accuracy", "f1_samples", "mae") if name in table)
        clean = float(table.loc[table["severity"] == 0, figure].iloc[0])
        mean, images = inspection.metrics[name][0], inspection.images["robustness"]
        if figure == "mae":
            told = f"MAE {mean:.4g} on corrupted images, {clean:.4g} on clean ones ({images:,} images)"
            if math.isnan(clean):
                return Finding(None, told, asked)
            share = 1.0 if mean == 0 else clean / mean  # NaN where an answer is no number, which passes no limit
            return Finding(share >= self.share, told, asked, f"{share:.4f}")
        told = f"{figure} {mean:.4f} on corrupted images, {clean:.4f} on clean ones ({images:,} images)"
        if not clean > 0:
            return Finding(None, told, asked)
        return Finding(mean >= self.share * clean, told, asked, f"{mean / clean:.4f}")
