"""How a network is tuned, step by step, as Lightning wants it told."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import pandas as pd
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torchvision.transforms import v2

from tasks.extract.backbones import Backbone
from tasks.extract.weights import State
from tasks.preprocess.pictures import Views
from tasks.preprocess.policies import changed
from tasks.train.heads import Head
from tasks.train.joint.criterion import Joint
from tasks.train.joint.images import further_heads, take_statistics
from tasks.train.targets import kind_of, measured, merit
from tasks.train.tuning.adversary import logits_under_attack, loss_under_attack
from tasks.train.tuning.batches import Batches
from tasks.train.tuning.clock import Clock
from tasks.train.tuning.config import TuningConfig
from tasks.train.tuning.network import Tuning
from tasks.train.tuning.served import Served


class TuningModule(L.LightningModule):
    """Tunes a network as a method says.

    Attributes:
        rows: a row of the curves for each epoch that is over.
        chosen: the blocks' rates of each epoch that has begun.
        states: the weights that were looked at last, of the network and of the head; further: heads of further tasks
            that are learned at once with it.
    """

    def __init__(
        self, method: TuningConfig, tuning: Tuning, served: Served, batches: Batches, steps: int, seed: int,
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.method, self.tuning, self.served, self.clock = method, tuning, served, clock or Clock()
        self.batches, self.steps, self.seed = batches, steps, seed
        self.rows: list[dict[str, float]] = []
        self.chosen: list[dict[str, Any]] = []
        self.pretrained: list[torch.Tensor] = []
        self.states: tuple[State, ...] = ()
        self.further: dict[str, Head] = {}
        self._mix = _mixing(method, batches.classes)
        self._losses: list[torch.Tensor] = []
        # In a list, so that it is no part of what is trained.
        self._looks_with: list[Backbone] = []
        self._seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._attacked: list[torch.Tensor] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups: list[dict[str, Any]] = []
        criterion = self.tuning.criterion
        beside = [*criterion.parameters()] if isinstance(criterion, nn.Module) else []
        pieces = [*(block.parameters for block in self.tuning.blocks), [*self.tuning.head.parameters(), *beside]]
        for number, parameters in enumerate(pieces):
            # Decay of biases and norms only hurts (He et al. 2019, "Bag of tricks").
            for decay, part in (
                (self.method.weight_decay, [p for p in parameters if p.ndim > 1]),
                (0.0, [p for p in parameters if p.ndim <= 1]),
            ):
                if part:
                    groups.append({"params": part, "weight_decay": decay, "block": number, "rate": 1.0})
        if self.method.optimiser == "sgd":
            return torch.optim.SGD(groups, lr=self.method.learning_rate, momentum=0.9, nesterov=True)
        # A fused optimiser undoes fp16's scaling of gradients itself, too late for what is done with them before.
        fused = self.trainer.precision != "16-mixed"
        return torch.optim.AdamW(groups, lr=self.method.learning_rate, fused=fused)

    def on_fit_start(self) -> None:
        self._hand_on_head()
        # Of what is tuned as it was before the first step: a checkpoint brings its own.
        if self.method.l2_sp and not self.pretrained:
            self.pretrained = [p.detach().clone() for block in self.tuning.blocks for p in block.parameters]
        self.pretrained = [start.to(self.device) for start in self.pretrained]

    def _hand_on_head(self) -> None:
        """Of several processes, the first one has solved the heads, or measured their statistics."""
        criterion = self.tuning.criterion
        for part in (self.tuning.head, *[criterion] * isinstance(criterion, Joint)):
            assert isinstance(part, nn.Module)
            state = {name: value.cpu() for name, value in part.state_dict().items()}
            part.load_state_dict(self.trainer.strategy.broadcast(state))

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(self.seed * 100_003 + self.current_epoch)
        self.batches.epoch = self.current_epoch
        self.tuning.over = self.batches.over = self._step() / self.steps
        with self.trainer.precision_plugin.forward_context():
            # Of several processes, each has measured its own part of the batches.
            rates = self.trainer.strategy.broadcast(self.method.rates(self.current_epoch, self.tuning))
            if self.current_epoch == 0 and self.method.head == "zero":
                self.tuning.standardise_as_learned(rates)
                take_statistics(self.tuning.criterion, self.tuning.head)
                self._hand_on_head()
        self.tuning.set_rates(rates)
        for group in self._groups():
            group["rate"] = [*rates, 1.0][group["block"]]
        names = [block.name for block in self.tuning.blocks]
        self.chosen += [
            {"epoch": self.current_epoch + 1, "block": name, "rate": rate}
            for name, rate in zip(names, rates, strict=True)
        ]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        step = self._step()
        self.tuning.over = self.batches.over = step / self.steps
        factor = schedule(step, self.steps, self.method.warmup)
        for group in self._groups():
            group["lr"] = self.method.learning_rate * group["rate"] * factor

    def _step(self) -> float:
        """Steps that are over or, where time passes faster than they do, as many as have no time left."""
        if self.clock.limit is None:
            return self.global_step
        # Of several processes, all have to step alike.
        return max(self.global_step, float(self.trainer.strategy.broadcast(self.clock.share)) * self.steps)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, targets = batch
        if not isinstance(self.batches.pictures, Views):  # which somebody else has looked at as they are
            images = changed(images, self.method.augment)
        if self._mix is not None:
            images, targets = self._mix(images.float(), targets)
        if self.method.attack is None:
            loss = self.tuning.loss(images, targets)
        else:
            loss = loss_under_attack(self.tuning, images, targets, self.method.attack)
        self._losses.append(loss.detach())
        # Of several processes, whose gradients are averaged, some may have an image more than others.
        _, processes = self.batches.share
        return loss * (len(targets) * processes / self.batches.batch_size)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.method.l2_sp:
            self._pull_back()
        if self.method.clip:
            # Lightning's own clipping refuses any fused optimiser.
            clip_grad_norm_(self.parameters(), self.method.clip)

    def _pull_back(self) -> None:
        tuned = [parameter for block in self.tuning.blocks for parameter in block.parameters]
        pairs = [(p, start) for p, start in zip(tuned, self.pretrained, strict=True) if p.grad is not None]
        if pairs:
            now, start = zip(*pairs, strict=True)
            away = torch._foreach_sub([p.detach() for p in now], start)
            torch._foreach_add_([p.grad for p in now], away, alpha=self.method.l2_sp)

    def on_validation_epoch_start(self) -> None:
        # Of a running average of the weights, while it stands in their place.
        self.states, self.further = self.tuning.states(), further_heads(self.tuning.criterion)
        self._looks_with = [self.served.backbone_of(self.states[0], self.device)]

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        images, targets = batch
        with torch.autocast(self.device.type, enabled=False):
            logits = self._served(images)
            if self.method.attack is not None:
                moved = logits_under_attack(self._served, images, targets, self.method.attack)
                self._attacked.append(moved.cpu())
        self._seen.append((logits.cpu(), targets.cpu()))

    def _served(self, images: torch.Tensor) -> torch.Tensor:
        return self.tuning.head(self._looks_with[0](images))

    def on_validation_epoch_end(self) -> None:
        self._looks_with = []
        logits, targets = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        loss = torch.stack(self._losses).mean().item()
        figures = measured("validation", logits, targets)
        if self._attacked:
            figures[self.method.compared_by(kind_of(targets))] = merit(torch.cat(self._attacked), targets)
        # Of several processes, each has statistics of batch norms of its own; what is kept is the first one's.
        figures = self.trainer.strategy.broadcast(figures)
        images = self.rows[-1]["images"] if self.rows else 0
        images += len(self._losses) * self.batches.batch_size
        told: dict[str, float] = {"step": self.current_epoch + 1, "images": images, "train/loss": loss}
        self.rows.append(told | figures | self._weights())
        self.log_dict(figures)
        self._seen, self._attacked, self._losses = [], [], []

    def _weights(self) -> dict[str, float]:
        criterion = self.tuning.criterion
        return criterion.told() if isinstance(criterion, Joint) else {}

    def on_train_epoch_end(self) -> None:
        # Of several processes, one is watched.
        self.trainer.should_stop = self.trainer.strategy.broadcast(self.trainer.should_stop)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["tuning"] = {
            "rows": self.rows, "chosen": self.chosen, "pretrained": self.pretrained,
            "ended": bool(self.trainer.should_stop), "passed": self.clock.passed, "validation": self.clock.validation,
        }  # fmt: skip

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = checkpoint["tuning"]
        self.rows, self.chosen, self.pretrained = kept["rows"], kept["chosen"], kept["pretrained"]
        self.clock.go_on_from(kept["passed"], kept["validation"])

    def curves(self) -> pd.DataFrame:
        """A row for each epoch that is over."""
        return pd.DataFrame(self.rows)

    def _groups(self) -> list[dict[str, Any]]:
        optimiser = self.optimizers()
        assert not isinstance(optimiser, list)
        return optimiser.param_groups


def schedule(step: float, steps: int, warmup: float) -> float:
    """Share of the full rate at a step: a rise over the share ``warmup`` of all steps, then half a cosine down to 0
    (Loshchilov & Hutter 2017, eq. 5)."""
    rise = warmup * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise)))


def _mixing(method: TuningConfig, classes: int) -> nn.Module | None:
    kinds: list[nn.Module] = []
    if method.mixup:
        kinds.append(v2.MixUp(alpha=method.mixup, num_classes=classes))
    if method.cutmix:
        kinds.append(v2.CutMix(alpha=method.cutmix, num_classes=classes))
    return None if not kinds else kinds[0] if len(kinds) == 1 else v2.RandomChoice(kinds)
