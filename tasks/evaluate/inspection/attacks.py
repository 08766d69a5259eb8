"""What is left of right answers when somebody who knows the network changes pixels so that it errs."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize, softplus

from tasks.evaluate.config import AttackConfig
from tasks.evaluate.inspection.looking import Looker, goodness
from tasks.evaluate.inspection.robustness import mean_within
from tasks.evaluate.inspection.saliency import AT_ONCE
from tasks.evaluate.scores.intervals import Interval, Sample
from tasks.extract.backbones import Backbone
from tasks.model.decisions import THRESHOLD
from tasks.progress import progress
from tasks.train.heads import Head, Neighbours
from tasks.train.pgd import ascend
from tasks.train.radius import levels

FLAT = 0.1
"""Share of the right answers without a slope from which on a figure under attack tells nothing."""

STEEP = 15.0
"""From where on softplus(-x) is exp(-x), to float32's precision."""


def measure_attacks(
    looker: Looker, pixels: torch.Tensor, targets: np.ndarray, sample: Sample, config: AttackConfig, seed: int = 0
) -> tuple[pd.DataFrame, dict[str, Interval], float]:
    """Answers to images, as they are and under attacks of each radius.

    An image counts by the worst answer that any of its moved copies got, of all steps and restarts, and of smaller
    radii, whose balls lie in the larger ones. So figures never rise with the radius. Copies are judged by the network
    as it is served.

    Args:
        pixels: uint8 ``[N, 3, S, S]``.
        targets: labels int ``[N]`` or ones and zeros ``[N, C]``.

    Returns:
        The table of `tasks.records.Inspection`, each attack's figure by its name, and the share of the right answers
        whose objective has no slope: of these, the attack knows no way to go.
    """
    measure = "accuracy" if targets.ndim == 1 else "f1_samples"
    attacker = Attacker(looker)
    worst = goodness(targets, looker.probabilities(pixels).numpy(), THRESHOLD)
    flat = attacker.flat(pixels, targets, worst)
    rows, figures = [_row(0.0, worst, sample, measure)], {}
    random = torch.Generator(looker.engine.device).manual_seed(seed)
    with progress("attack", len(config.radii) * len(pixels), "img") as advance:
        for radius in config.radii:
            for places in np.array_split(np.arange(len(pixels)), max(1, -(-len(pixels) // attacker.batch(pixels)))):
                # What is all wrong cannot become worse.
                if len(left := places[worst[places] > 0]):
                    found = attacker.worst(pixels[left], targets[left], radius, config, random)
                    worst[left] = np.minimum(worst[left], found)
                advance(len(places))
            rows.append(row := _row(radius, worst, sample, measure))
            figures[name_of(radius)] = (row[measure], row["low"], row["high"])
    return pd.DataFrame(rows), figures, flat


def name_of(radius: float) -> str:
    """The name of a figure under attack: ``attacked_4_255`` for 4/255."""
    return f"attacked_{levels(radius)}_255"


def _row(radius: float, worst: np.ndarray, sample: Sample, measure: str) -> dict[str, float]:
    value, low, high = mean_within(worst, sample)
    return {"radius": radius, "images": len(worst), measure: value, "low": low, "high": high}


class Attacker:
    """Knows a candidate's weights, and moves pixels by what they say.

    Slopes are computed in float32 whatever the network is served in: of few bits, the sign of a small slope is chance.
    """

    def __init__(self, looker: Looker) -> None:
        self.looker, self.head = looker, looker.head
        self.backbones = [_in_float32(engine.backbone) for engine in looker.engines]

    def batch(self, pixels: torch.Tensor) -> int:
        """Images at a time, whose activations are all kept."""
        return max(1, AT_ONCE.get(self.looker.engine.device.type, AT_ONCE["cpu"]) // pixels.shape[-1] ** 2)

    def worst(
        self, pixels: torch.Tensor, targets: np.ndarray, radius: float, config: AttackConfig, random: torch.Generator
    ) -> np.ndarray:
        """How right the worst answer to each image is that was found within a radius, ``[N]``."""
        images, labels = pixels.to(self.looker.engine.device).float(), torch.from_numpy(targets)
        worst = np.ones(len(images))
        for _ in range(config.restarts):
            for moved in ascend(
                images, lambda each: self.error(each, labels), radius, config.steps, config.step, random
            ):
                answers = self.looker.probabilities(moved).numpy()
                worst = np.minimum(worst, goodness(targets, answers, THRESHOLD))
                if not worst.any():
                    return worst
        return worst

    def flat(self, pixels: torch.Tensor, targets: np.ndarray, right: np.ndarray) -> float:
        """The share of the images that are right at all, by ``right`` ``[N]``, at which the objective has no slope."""
        slopes = [
            self._steepest(*part)
            for part in zip(
                pixels.split(self.batch(pixels)), torch.from_numpy(targets).split(self.batch(pixels)), strict=True
            )
        ]
        none = (torch.cat(slopes) == 0).numpy()
        return float(none[right > 0].mean()) if (right > 0).any() else 0.0

    def _steepest(self, pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            images = pixels.to(self.looker.engine.device).float().requires_grad_()
            [slope] = torch.autograd.grad(self.error(images, targets).sum(), images)
        return slope.nan_to_num().abs().amax((1, 2, 3)).cpu()

    def error(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """What the attack raises, ``[N]``: see `hardness`, of the answers to images ``[N, 3, S, S]``."""
        parts = zip(self.looker.engines, self.backbones, strict=True)
        features = [backbone(self.looker.part(engine, images)).cpu() for engine, backbone in parts]
        return hardness(smooth_logits(self.head, torch.cat(features, dim=1)), targets)


def hardness(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The logarithm of the cross-entropy of logits ``[N, C]``, of one class or, where targets are zeros and ones
    ``[N, C]``, of each: ``[N]``.

    It rises wherever cross-entropy does, and so has slopes of the same signs; but cross-entropy is 0 in float32, and
    flat, where a network is very sure, or its logits are merely large, as after calibration. An attack by it would
    take that for robustness (Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", 5). With
    margins mₖ, the logarithm of the odds of what is right,

        log Σₖ softplus(-mₖ) = logsumexpₖ log softplus(-mₖ)
    """
    if targets.ndim == 1:
        there = logits.gather(1, targets[:, None])
        others = logits.scatter(1, targets[:, None], float("-inf")).logsumexp(1, keepdim=True)
        margins = there - others
    else:
        margins = (2 * targets - 1) * logits
    sure = margins > STEEP
    unsure = softplus(-margins.masked_fill(sure, 0.0)).log()
    return torch.where(sure, -margins, unsure).logsumexp(1)


def smooth_logits(head: Head, features: torch.Tensor) -> torch.Tensor:
    """Logits ``[N, C]`` with slopes. The votes of the nearest neighbours are steps, whose slope is 0: in their place
    stand those of all examples, of which the near ones count for most (soft nearest neighbours, Frosst et al. 2019)."""
    if not isinstance(head.layers, Neighbours):
        return head(features)
    examples, targets = head.layers.examples, head.layers.targets
    votes = (normalize(head.standardised(features), dim=1) @ examples.T / head.layers.SHARPNESS).softmax(1)
    least = torch.finfo(votes.dtype).tiny
    there = (votes @ targets).clamp(min=least).log()
    return there - (votes @ (1 - targets)).clamp(min=least).log() if head.multi_label else there


def _in_float32(backbone: Backbone) -> Backbone:
    if backbone.precision == torch.float32:
        return backbone
    ready = copy.deepcopy(backbone)
    ready.precision = torch.float32
    ready.trunk.float()
    return ready


def told(table: pd.DataFrame, flat: float, split: str) -> Iterator[str]:
    """That an attack tells nothing, where it knew no way to go."""
    if flat > FLAT:
        yield (
            f"{split}: {flat:.0%} of the right answers have no slope that an attack could follow, so figures under "
            f"attack say nothing ({table['images'].iloc[0]:,} images)"
        )
