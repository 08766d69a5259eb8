"""The packaged model answers as the evaluated one did."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.register.gating import Evidence, Finding, Gate


class Parity(Gate):
    """The packaged model, loaded as a server would load it from the files that MLflow keeps, gives some held-out images
    the probabilities that the evaluation wrote down: its preprocessing, backbone and head are those that were
    measured."""

    gate: Literal["parity"] = "parity"
    on_failure: Literal["approve", "reject", "warn"] = "reject"
    """As of all gates."""
    images: int = Field(default=12, ge=1, le=200)
    """Held-out images that are tried: half of them those that the model was least sure of, which show most."""
    tolerance: float | None = Field(default=None, ge=0, le=1)
    """By how much a probability may differ. By default 0.01, and 0.1 where the backbone computes in bf16 or fp16, whose
    rounding depends on how many images are computed together."""

    def measure(self, evidence: Evidence) -> Finding:
        from tasks.register.golden import largest_difference

        return largest_difference(evidence, self.images, self.tolerance)
