"""Base of the methods of domain adaptation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.train.adaptation.config import AdaptationConfig

if TYPE_CHECKING:
    from tasks.train.solvers import Fit
    from tasks.train.task import Task


class Adaptation(AdaptationConfig):
    """Learns from labelled features and from those of the pool; see `tasks.train.adaptation.fit.adapt`."""

    def fit(self, task: Task) -> Fit:
        from tasks.train.adaptation.fit import Domains, adapt

        domains = Domains(task.train, task.validation, task.adapted_to, task.classes, task.counted)
        return adapt(self, domains, task.seed)
