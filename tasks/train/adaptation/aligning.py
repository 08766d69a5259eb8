"""Base of the methods of domain adaptation in closed form."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING

from tasks.train.adaptation.config import Cautious

if TYPE_CHECKING:
    import torch

    from tasks.train.adaptation.alignment import Aligned
    from tasks.train.solvers import Fit
    from tasks.train.targets import Labelled
    from tasks.train.task import Task


class Aligning(Cautious):
    """Labelled features are brought to where those of the pool are, and a linear head is solved on them. Each domain is
    standardised by its own statistics; the model is served with those of the target."""

    @abstractmethod
    def align(self, train: Labelled, validation: Labelled, target: torch.Tensor, seed: int = 0) -> Aligned:
        """Bring standardised features to the target's; see `tasks.train.adaptation.alignment.Align`."""

    def fit(self, task: Task) -> Fit:
        from tasks.train.adaptation.alignment import both
        from tasks.train.adaptation.caution import keep

        aligned = partial(self.align, seed=task.seed)
        plain, adapted = both(task.train, task.validation, task.adapted_to, task.classes, aligned, task.counted)
        return keep(self.method, plain, adapted, self.cautious, self.least_agreement)
