"""The keys that methods of domain adaptation share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tasks.train.method import Method

if TYPE_CHECKING:
    from tasks.train.adaptation.terms import Term


class AdaptationConfig(Method):
    """A head with a hidden layer, trained on labelled features of some domains and unlabelled ones of the target at the
    same time. Each domain is standardised by its own statistics; the model is served with those of the target."""

    strength: float = Field(default=1.0, gt=0)
    """How much the term counts that draws the domains together."""
    epochs: int = Field(default=20, ge=1)
    """Passes over the labelled features."""
    hidden: int = Field(default=256, ge=1)
    """Width of the hidden layer."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Step size at the beginning; it falls to zero along a cosine."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Share of the weights that a step of size one takes away."""
    batch_size: int = Field(default=128, ge=2)
    """Labelled images per step, and as many unlabelled ones."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the target that is spread over all classes."""
    cautious: bool = True
    """Whether a head that has seen no image of the target is kept where criteria that need no labels do not agree that
    the adapted one is better (docs/adaptation.md)."""

    multi_label: ClassVar[bool] = False
    unlabelled: ClassVar[bool] = True
    statistics_only: ClassVar[bool] = False
    """Whether the head learns as if there were no target, whose mean and deviations it is then served with."""

    def term(self, classes: int) -> Term:
        """What is added to the loss of the labelled images: by default what bears the method's name."""
        from tasks.train.adaptation.terms import TERMS

        return TERMS[self.method](self.hidden, classes)
