"""Networks between a plain one and an adapted one: weights on the line that leads from one to the other. Where adapting
went wrong the plain one holds against it, and what is served costs no more than either."""

from __future__ import annotations

import pandas as pd
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from tasks.extract.weights import State
from tasks.preprocess.pictures import Squares
from tasks.train.adaptation.hedging import together
from tasks.train.solvers import Fit
from tasks.train.task import Task
from tasks.train.tuning.batches import HeldOut
from tasks.train.tuning.mixing import Judge, Mixture, made

HALF = 0.5


def midway(plain: Fit, adapted: Fit, share: float, task: Task, target: Squares, follow: bool) -> Fit:
    """Both as one network. They learned from the same pretrained weights, and so lie in one basin of the loss
    (Neyshabur et al. 2020, "What is being transferred in transfer learning?", 3.4; Wortsman et al. 2022).

    The head adds the logits of both heads on this network's features.

    Args:
        share: of the adapted one. At 0 it is the plain one, under the target's statistics (Li et al. 2017, "Revisiting
            batch normalization for practical domain adaptation").
        target: images of the target.
        follow: whether batch norms have the statistics of these, for weights between two trainings have none of their
            own (Izmailov et al. 2018, "Averaging weights leads to wider optima", 3.2); else those of both, averaged.
    """
    between = Mixture.of(plain).towards(Mixture.of(adapted), share).network
    state = with_statistics(between, target, task) if follow else between
    mixture = Mixture(state, together((plain.head, adapted.head), (1 - share, share)).state_dict())
    judge = Judge(task, adapted.head)
    row = judge(mixture)
    told = pd.DataFrame([row]).assign(mixed="plain and adapted", share=share, kept=True)
    return made(adapted, mixture, row[judge.merit], {"share": share}, told)


def has_statistics(fit: Fit) -> bool:
    """Whether there are batch norms in the network."""
    assert fit.backbone is not None
    return any(key.endswith("running_var") for key in fit.backbone.state)


def _alike(images: Squares) -> HeldOut:
    """Batches of about one size, for each counts as much as any other."""
    batches = max(1, -(-len(images) // HeldOut.batch_size))
    return HeldOut(images, torch.zeros(len(images)), -(-len(images) // batches))


@torch.inference_mode()
def with_statistics(state: State, images: Squares, task: Task) -> State:
    """A network's weights with the statistics of some images in its batch norms: the mean over batches."""
    network, backbone = task.network()
    network.load_state_dict(state)
    device, precision = torch.device(task.features.device), getattr(torch, task.features.precision)
    backbone.eval().to(device)
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()  # alone: what is dropped in training would be part of the statistics
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        for batch, _ in _alike(images) if norms else ():
            backbone(batch.to(device))
    return {key: tensor.detach().cpu().clone() for key, tensor in network.state_dict().items()}
