"""The keys that methods of domain adaptation share."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from tasks.train.method import Method

if TYPE_CHECKING:
    from tasks.train.adaptation.domains import Domains, Learned

LEAST_AGREEMENT = 0.1
"""Cohen's kappa of the adapted and the plain model on the target from which on the adapted one is trusted; chosen on
the twelve pairs of PACS' domains for one head of `mcc` (benchmarks/adaptation.py)."""


class Cautious(Method):
    """A method that adapts, and holds the adapted model against a plain one that has seen no image of the target."""

    cautious: bool = True
    """Whether the plain model is kept where criteria that need no labels do not agree that the adapted one is better
    (docs/adaptation.md)."""
    least_agreement: float = Field(default=LEAST_AGREEMENT, ge=0, le=1)
    """Cohen's kappa of both models' answers on the target from which on the adapted one is trusted: higher is safer,
    and gains less."""

    multi_label: ClassVar[bool] = False
    unlabelled: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check_search(self) -> Self:
        if self.search:
            raise ValueError(
                "search is not for adaptation: it chooses by validation images, which are of the labelled domains"
            )
        return self


class AdaptationConfig(Cautious):
    """A head with a hidden layer, trained on labelled features of some domains and unlabelled ones of the target at the
    same time. Each domain is standardised by its own statistics; the model is served with those of the target."""

    epochs: int = Field(default=20, ge=1)
    """Passes over the labelled features."""
    hidden: int = Field(default=256, ge=1)
    """Width of the hidden layer."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Step size at the beginning; it falls to zero along a cosine."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Share of the weights that a step of size one takes away."""
    heads: int = Field(default=3, ge=1)
    """Heads that are trained, each from other first weights and batches, and served as one: their mean logits (deep
    ensembles, Lakshminarayanan et al. 2017). What one of them was led to by chance, the others outvote."""
    least_agreement: float = Field(default=0.15, ge=0, le=1)
    """Cohen's kappa of both models' answers on the target from which on the adapted one is trusted: higher is safer,
    and gains less. Chosen on the twelve pairs of PACS' domains (benchmarks/adaptation.py)."""
    batch_size: int = Field(default=128, ge=2)
    """Labelled images per step, and as many unlabelled ones."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the target that is spread over all classes."""

    @abstractmethod
    def adapted(self, plain: Learned, domains: Domains, seed: int) -> Learned:
        """What is served with the target's statistics.

        Args:
            plain: what learned from the source's labels alone, from the same weights and batches.
        """
