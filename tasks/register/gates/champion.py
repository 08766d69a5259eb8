"""Not worse than the champion, on the same images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tasks.register.gating import Evidence, Finding, Gate, Standing


class Champion(Gate):
    """A version knows the champion's classes and is not worse, by the 95% interval of the difference on the same
    validation images. The first version passes; after a roll-back, and where the two cannot be compared, a person
    decides."""

    gate: Literal["champion"] = "champion"
    better: bool = False
    """Whether it has to be shown to be better: the whole interval above 0."""
    margin: float | None = Field(default=None, ge=0, lt=1)
    """Whether it has to be shown that it is worse by less than this, such as `0.01`: the whole interval above minus
    the margin; of a number, by less than this share of the champion's mean absolute error. By default it is enough
    that the interval does not lie below 0."""

    @model_validator(mode="after")
    def _one_aim(self) -> Champion:
        if self.better and self.margin is not None:
            raise ValueError("name one of better and margin: what is better is within any margin")
        return self

    def measure(self, evidence: Evidence) -> None:
        """Who is champion is known when the version is judged; its tags say how it stood."""

    def confirm(self, finding: Finding | None, standing: Standing) -> Finding:
        from tasks.register.succession import succeeds

        return succeeds(standing, self.better, self.margin)
