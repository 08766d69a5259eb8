"""Fine-tuning whose batch norms are given the target's statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from tasks.errors import ConfigurationError
from tasks.train.adaptation.config import Cautious
from tasks.train.tuning.method import ThroughBackbone

if TYPE_CHECKING:
    from torch import nn

    from tasks.train.solvers import Fit
    from tasks.train.task import Task
    from tasks.train.tuning.blocks import Block
    from tasks.train.tuning.network import Tuning


class AdaBnTuned(Cautious, ThroughBackbone):
    """Domain adaptation through the backbone: all layers learn from the labelled images alone, as by `full`, and
    afterwards batch norms are given the statistics of the target's images (AdaBN, Li et al. 2017). It costs no more
    than `full`, and needs a network that has batch norms."""

    method: Literal["adabn_tuned"] = "adabn_tuned"
    cautious: bool = True
    """Whether the network is served as it was trained where criteria that need no labels do not agree that the target's
    statistics are better (docs/adaptation.md)."""
    head: Literal["zero", "probe"] = "zero"
    """What the head starts from: zeros, or the logistic regression on the frozen features."""
    batch_norm: Literal["update", "frozen"] = "update"
    """Whether the statistics of batch norms follow the labelled images while training, or stay as they were
    pretrained."""

    numbers: ClassVar[bool] = False

    @model_validator(mode="after")
    def _check_choices(self) -> AdaBnTuned:
        if self.attack:
            raise ValueError("attack is not for adaptation: images of the target have no labels that could be missed")
        return self

    def prepare(self, network: nn.Module, blocks: list[Block]) -> None:
        if not any(block.batch_norms for block in blocks):
            raise ConfigurationError(
                "adabn_tuned (train.method) gives batch norms the target's statistics, and the backbone has none: take "
                "adapt_tuned, whose terms need none"
            )

    def rates(self, epoch: int, tuning: Tuning) -> list[float]:
        return self.by_depth(len(tuning.blocks))

    def settle(self, fit: Fit, task: Task) -> Fit:
        from tasks.train.adaptation.images import restated

        return restated(fit, task, self.cautious, self.least_agreement)
