"""Distillation: a student learns from registered models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from tasks.train.distillation.config import Distillation
from tasks.train.tuning.method import ThroughBackbone

if TYPE_CHECKING:
    from tasks.train.heads import Head
    from tasks.train.solvers import Fit
    from tasks.train.task import Task
    from tasks.train.tuning.network import Material, Tuning


class Distill(Distillation):
    """A linear head on cached features learns from labels and from registered models, solved to convergence; the L2
    strength is chosen on validation. In seconds, once the teachers have looked at the images."""

    method: Literal["distill"] = "distill"

    def fit(self, task: Task) -> Fit:
        from tasks.train.distillation.head import fit_student

        return fit_student(self, task)


class DistillTuned(Distillation, ThroughBackbone):
    """All layers learn from labels and from registered models, the head from what `distill` solves (`head: probe`).
    With `preprocess.augmented`, images are learned from in the very views that the teachers have looked at, each once
    an epoch; without, in random views, and the teachers' answers are those about the whole image."""

    method: Literal["distill_tuned"] = "distill_tuned"
    relations: float = Field(default=0.0, ge=0)
    """How much it counts besides that images lie to each other as in the teachers' features: distances of pairs and
    angles of triples of a batch (RKD, Park et al. 2019); 1 is the paper's strength."""

    @model_validator(mode="after")
    def _check_images(self) -> DistillTuned:
        if self.mixup or self.cutmix or self.balance != "none":
            raise ValueError(
                "mixup, cutmix and balance are not for distillation: no teacher has looked at mixed images, and those "
                "without labels are of no class"
            )
        return self

    @property
    def reads_pool(self) -> bool:
        return self.pool and (self.head == "probe" or "distill" in self.tried[1])

    def rates(self, epoch: int, tuning: Tuning) -> list[float]:
        return self.by_depth(len(tuning.blocks))

    def material(self, task: Task) -> Material:
        from tasks.train.distillation.images import taught

        return taught(self, task, self.label_smoothing, self.relations)

    def probe(self, task: Task) -> Head:
        from tasks.train.distillation.head import fit_student

        return fit_student(self, task).head

    @classmethod
    def space(cls, draw: Any) -> dict[str, Any]:
        return Distillation.space(draw) | super(Distillation, cls).space(draw)
