"""The ``evaluate`` section of a configuration."""

from __future__ import annotations

from pydantic import Field

from tasks.section import Section


class EvaluateConfig(Section):
    """How the figures of merit are computed."""

    resamples: int = Field(default=1000, ge=100)
    """Bootstrap resamples behind the 95% intervals."""
    seed: int = 0
    """Of the bootstrap."""
