"""The ``evaluate`` section of a configuration."""

from __future__ import annotations

from pydantic import Field

from tasks.section import Section


class EvaluateConfig(Section):
    """How the figures of merit are computed."""

    resamples: int = Field(default=1000, ge=100)
    """Bootstrap resamples behind the 95% intervals."""
    seed: int = 0
    """Of the bootstrap, and of the samples that are drawn."""
    robustness: int | None = Field(default=None, ge=0)
    """Held-out images that are corrupted in 30 ways and passed through the network again; 0: none. By default 100 or,
    on a CPU, as few as a slow network can take in some ten seconds."""
    explain: int = Field(default=12, ge=0, le=60)
    """Answers that are shown with a heat map of what they rest on, as many wrong as right; 0: none."""

    @property
    def inspects(self) -> bool:
        """Whether the network is looked through at all."""
        return self.robustness != 0 or self.explain > 0
