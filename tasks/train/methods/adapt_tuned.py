"""Domain adaptation through the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from tasks.train.tuning.method import ThroughBackbone

if TYPE_CHECKING:
    from tasks.train.solvers import Fit
    from tasks.train.task import Task
    from tasks.train.tuning.network import Material, Tuning


class AdaptTuned(ThroughBackbone):
    """Domain adaptation through the backbone: all layers learn from labelled images of some domains and from as many
    unlabelled ones of the target in each step, by one of the terms that the methods of these names add for a head. The
    last epoch is kept, for the validation images are of the other domains."""

    method: Literal["adapt_tuned"] = "adapt_tuned"
    term: Literal["mcc", "cdan", "dann", "dan", "deep_coral"] = "mcc"
    """What draws the domains together (docs/adaptation.md)."""
    strength: float = Field(default=1.0, gt=0)
    """How much the term counts."""
    cautious: bool = True
    """Whether a logistic regression on features of the pretrained backbone is kept where criteria without labels do
    not agree that the adapted network is better."""
    head: Literal["zero", "probe"] = "zero"
    """What the head starts from: zeros, or that regression, for `batch_norm: frozen`."""
    batch_norm: Literal["update", "frozen"] = "update"
    """Whether batch norms follow the new images, each domain normalised by its own statistics and the target's kept, or
    all statistics stay as they were pretrained."""

    multi_label: ClassVar[bool] = False
    unlabelled: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check_choices(self) -> AdaptTuned:
        if self.mixup or self.cutmix:
            raise ValueError("mixup and cutmix are not for adaptation: images of the target have no labels to be mixed")
        if self.patience or self.wise_ft or self.soup or (self.search and self.search.soup):
            raise ValueError(
                "patience, wise_ft and soup are not for adaptation: they choose by validation images, which are of the "
                "labelled domains"
            )
        return self

    def rates(self, epoch: int, tuning: Tuning) -> list[float]:
        return self.by_depth(len(tuning.blocks))

    def epoch_kept(self, merits: Sequence[float]) -> int:
        return len(merits) - 1

    def material(self, task: Task) -> Material:
        from tasks.train.adaptation.images import adapting

        return adapting(self, task, self.term, self.strength)

    def settle(self, fit: Fit, task: Task) -> Fit:
        from tasks.train.adaptation.images import trusted

        return trusted(fit, task, self.probe(task), self.cautious)
