"""A branch for each domain, of which the target's learns to be taken for the source's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.train.adaptation.method import Adaptation

if TYPE_CHECKING:
    from tasks.train.adaptation.domains import Domains, Learned


class Adda(Adaptation):
    """Domain adaptation: source and target have a hidden layer each, and the target's learns what cannot be told apart
    from the source's (ADDA)."""

    method: Literal["adda"] = "adda"
    target_epochs: int = Field(default=20, ge=1)
    """Passes, as long as those of `epochs`, in which the target's branch learns, once the source's has."""
    target_learning_rate: float = Field(default=1e-4, gt=0)
    """Step size of the target's branch at the beginning; its adversary has `learning_rate`."""

    def adapted(self, plain: Learned, domains: Domains, seed: int) -> Learned:
        from tasks.train.adaptation.branches import branch_off
        from tasks.train.adaptation.fit import APART, mean_of

        branches = [
            branch_off(one.head, self, domains, seed + number * APART, self.target_epochs, self.target_learning_rate)
            for number, one in enumerate(plain.each)
        ]
        return mean_of(branches)
