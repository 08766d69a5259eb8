"""The methods that train through the backbone: what they share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.train.tuning.config import TuningConfig

if TYPE_CHECKING:
    from tasks.train.heads import Head
    from tasks.train.solvers import Fit
    from tasks.train.task import Task
    from tasks.train.tuning.network import Material


class ThroughBackbone(TuningConfig):
    """Base of the methods that train through the backbone.

    A subclass says at what rate each block of the network learns in each epoch (`rates`).
    """

    numbers = True

    def fit(self, task: Task) -> Fit:
        from tasks.train.tuning.run import tune

        return tune(self, task)

    def material(self, task: Task) -> Material:
        from tasks.train.joint.images import joint_material
        from tasks.train.tuning.labels import labelled

        if self.tasks:
            return joint_material(self, self.tasks, task)
        return labelled(self, task)

    def probe(self, task: Task) -> Head:
        from tasks.train.tuning.labels import probe

        return probe(self, task)
