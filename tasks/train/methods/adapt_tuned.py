"""Domain adaptation through the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from tasks.train.adaptation.config import Cautious
from tasks.train.methods.full import Full
from tasks.train.tuning.method import ThroughBackbone

if TYPE_CHECKING:
    from tasks.train.solvers import Fit
    from tasks.train.task import Task
    from tasks.train.tuning.network import Material, Tuning


PLAIN = 1 / 3
"""Share of the time that learning from labelled images alone takes: half as many images a step."""


class AdaptTuned(Cautious, ThroughBackbone):
    """Domain adaptation through the backbone: all layers learn from labelled images of some domains and from as many
    unlabelled ones of the target in each step, by one of the terms that the methods of these names add for a head. The
    last epoch is kept, for the validation images are of the other domains."""

    method: Literal["adapt_tuned"] = "adapt_tuned"
    term: Literal["mcc", "cdan", "dann", "dan", "deep_coral"] = "mcc"
    """What draws the domains together (docs/adaptation.md)."""
    strength: float = Field(default=1.0, gt=0)
    """How much the term counts."""
    cautious: bool = True
    """Whether a network is trained as well, and alike, that sees no image of the target. The mean of both networks'
    weights is served or, where criteria that need no labels do not agree that this is better, that network alone; half
    as much again, and a third of `minutes`."""
    head: Literal["zero", "probe"] = "zero"
    """What the head starts from: zeros or, for `batch_norm: frozen`, the logistic regression on the frozen features."""
    batch_norm: Literal["update", "frozen"] = "update"
    """Whether batch norms follow the new images, each domain normalised by its own statistics and the target's kept, or
    all statistics stay as they were pretrained."""

    numbers: ClassVar[bool] = False

    @model_validator(mode="after")
    def _check_choices(self) -> AdaptTuned:
        if self.mixup or self.cutmix:
            raise ValueError("mixup and cutmix are not for adaptation: images of the target have no labels to be mixed")
        if self.attack:
            raise ValueError("attack is not for adaptation: images of the target have no labels that could be missed")
        if self.patience or self.wise_ft or self.soup:
            raise ValueError(
                "patience, wise_ft and soup are not for adaptation: they choose by validation images, which are of the "
                "labelled domains"
            )
        return self

    @property
    def seconds(self) -> float | None:
        whole = super().seconds
        return whole * (1 - PLAIN) if whole and self.cautious else whole

    def rates(self, epoch: int, tuning: Tuning) -> list[float]:
        return self.by_depth(len(tuning.blocks))

    def epoch_kept(self, merits: Sequence[float]) -> int:
        return len(merits) - 1

    def material(self, task: Task) -> Material:
        from tasks.train.adaptation.images import adapting

        return adapting(self, task, self.term, self.strength)

    def settle(self, fit: Fit, task: Task) -> Fit:
        from tasks.train.adaptation.images import adapted, trusted
        from tasks.train.tuning.run import tune

        if not self.cautious:
            return adapted(fit, task)
        plain = tune(self.source_only, replace(task, folder=task.folder / "source-only"))
        return trusted(fit, plain, task, self.batch_norm == "update", self.least_agreement)

    @property
    def source_only(self) -> Full:
        """What learns from the labelled images alone, alike in all else."""
        shared = Full.model_fields.keys() - {"method", "search", "seeds"}
        minutes = PLAIN * self.minutes if self.minutes else None
        return Full.model_validate({key: getattr(self, key) for key in shared} | {"minutes": minutes})
