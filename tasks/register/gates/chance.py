"""Better than an answer that has not looked at the image."""

from __future__ import annotations

from typing import Literal

from tasks.register.gating import Evidence, Finding, Gate, Standing


class Chance(Gate):
    """The interval of the score on validation lies above what an answer gets that has not looked at the image: always
    naming the commonest class, with several labels an image, images in any order or, of a number, always telling the
    mean. A candidate that learned from
    shuffled labels ends here."""

    gate: Literal["chance"] = "chance"
    on_failure: Literal["approve", "reject", "warn"] = "reject"
    """As of all gates."""

    def measure(self, evidence: Evidence) -> None:
        """The version's own tags say it."""

    def confirm(self, finding: Finding | None, standing: Standing) -> Finding:
        from tasks.register.succession import beats_chance

        return beats_chance(standing)
