"""Bases of the methods of domain adaptation on cached features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.train.adaptation.config import AdaptationConfig

if TYPE_CHECKING:
    from tasks.train.adaptation.domains import Domains, Learned
    from tasks.train.adaptation.terms import Term
    from tasks.train.solvers import Fit
    from tasks.train.task import Task


class Adaptation(AdaptationConfig):
    """Learns from labelled features and from those of the pool; see `tasks.train.adaptation.fit.adapt`."""

    def fit(self, task: Task) -> Fit:
        from tasks.train.adaptation.domains import Domains
        from tasks.train.adaptation.fit import adapt

        domains = Domains(task.train, task.validation, task.adapted_to, task.classes, task.counted)
        return adapt(self, domains, task.seed)


class ByTerm(Adaptation):
    """A term that draws the domains together is added to the loss of the labelled images."""

    strength: float = Field(default=1.0, gt=0)
    """How much the term counts that draws the domains together."""

    def term(self, classes: int) -> Term:
        """By default what bears the method's name."""
        from tasks.train.adaptation.terms import TERMS

        return TERMS[self.method](self.hidden, classes)

    def adapted(self, plain: Learned, domains: Domains, seed: int) -> Learned:
        from tasks.train.adaptation.fit import learn

        return learn(self, domains, seed, self.term, self.strength)
