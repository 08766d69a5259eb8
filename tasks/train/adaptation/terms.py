"""What draws two domains together: terms that are added to the loss of the labelled images.

Each is called with the activations of as many labelled images of the source as unlabelled ones of the target, and with
the share of the training that is over, and gives a loss. Those with parameters learn them by the same optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy


class Activations(NamedTuple):
    """Of a batch: the hidden layer's float32 ``[B, hidden]``, and logits ``[B, C]``."""

    hidden: torch.Tensor
    logits: torch.Tensor


class Term(nn.Module):
    """Base of all terms; without parameters, unless a subclass has some."""

    def forward(self, source: Activations, target: Activations, over: float) -> torch.Tensor:
        raise NotImplementedError


class Nothing(Term):
    """Adds nothing."""

    def forward(self, source: Activations, target: Activations, over: float) -> torch.Tensor:
        return source.logits.new_zeros(())


class Adversary(Term):
    """Tells the domains apart by the hidden layer, which learns that it cannot (DANN, Ganin et al. 2016, "Domain-
    adversarial training of neural networks").

    Gradients are reversed and multiplied by λ = 2/(1 + exp(-10·p)) - 1 (their 5.2.2), p being the share of the training
    that is over.
    """

    def __init__(self, width: int, hidden: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, source: Activations, target: Activations, over: float) -> torch.Tensor:
        return self._told_apart(source.hidden, target.hidden, over)

    def _told_apart(
        self, source: torch.Tensor, target: torch.Tensor, over: float, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        images = _Reversed.apply(torch.cat([source, target]), 2 / (1 + math.exp(-10 * over)) - 1)
        is_source = (torch.arange(len(images)) < len(source)).float()
        return binary_cross_entropy_with_logits(self.layers(images)[:, 0], is_source.to(images.device), weights)


class ConditionalAdversary(Adversary):
    """As `Adversary`, by hidden layer and answer together: their outer product (CDAN+E, Long et al. 2018, "Conditional
    adversarial domain adaptation", 3.2). Images count 1 + exp(-entropy of the answer), so sure ones count for more.

    Of more than `MOST_PAIRS` products, `DRAWN` random sums are taken in their place, (R h) ⊙ (S p) / √d with R and S of
    unit normals (their 3.1, eq. 5), whose inner products are on average those of the products themselves.
    """

    MOST_PAIRS = 16_384
    DRAWN = 1024
    of_hidden: torch.Tensor
    of_answers: torch.Tensor

    def __init__(self, width: int, classes: int) -> None:
        several = width * classes > self.MOST_PAIRS
        super().__init__(self.DRAWN if several else width * classes)
        if several:
            self.register_buffer("of_hidden", torch.randn(width, self.DRAWN) / math.sqrt(self.DRAWN))
            self.register_buffer("of_answers", torch.randn(classes, self.DRAWN))
        self.several = several

    def together(self, hidden: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """Hidden layer and answers as one: ``[B, width]`` and ``[B, C]`` to ``[B, pairs]``."""
        if self.several:
            return (hidden @ self.of_hidden) * (answers @ self.of_answers)
        return (answers[:, :, None] * hidden[:, None]).flatten(1)

    def forward(self, source: Activations, target: Activations, over: float) -> torch.Tensor:
        answers = [part.logits.detach().softmax(1) for part in (source, target)]
        joint = [self.together(part.hidden, given) for part, given in zip((source, target), answers, strict=True)]
        sure = [1 + torch.exp(-entropies(answer)) for answer in answers]
        weights = torch.cat([part / part.mean() for part in sure])
        return self._told_apart(joint[0], joint[1], over, weights)


class Discrepancy(Term):
    """Maximum mean discrepancy of the hidden layers under a sum of Gaussian kernels (DAN, Long et al. 2015, "Learning
    transferable features with deep adaptation networks"), whose variances are the mean squared distance times 1/8 to 2.
    """

    SCALES = (0.125, 0.25, 0.5, 1.0, 2.0)

    def forward(self, source: Activations, target: Activations, over: float) -> torch.Tensor:
        count = len(source.hidden)
        images = torch.cat([source.hidden, target.hidden])
        lengths = images.square().sum(1)
        distances = (lengths[:, None] + lengths[None] - 2 * images @ images.T).clamp(min=0)
        spread = distances.detach().sum() / (len(images) * (len(images) - 1))
        alike = sum(torch.exp(-distances / (spread * scale)) for scale in self.SCALES)
        assert isinstance(alike, torch.Tensor)
        return alike[:count, :count].mean() + alike[count:, count:].mean() - 2 * alike[:count, count:].mean()


class Correlation(Term):
    """Squared distance of the hidden layers' covariances, divided by 4·width² (Deep CORAL, Sun & Saenko 2016, eq. 1)
    and multiplied by the width, so that one strength suits all widths.

    For centred X and Y, ‖XᵀX - YᵀY‖² = ‖XXᵀ‖² + ‖YYᵀ‖² - 2 ‖XYᵀ‖²: as many numbers as pairs of images, not of units.
    """

    def forward(self, source: Activations, target: Activations, over: float) -> torch.Tensor:
        one, other = (
            (part.hidden - part.hidden.mean(0)) / math.sqrt(max(1, len(part.hidden) - 1)) for part in (source, target)
        )
        squares = [(left @ right.T).square().sum() for left, right in ((one, one), (other, other), (one, other))]
        return (squares[0] + squares[1] - 2 * squares[2]) / (4 * one.shape[1])


class Confusion(Term):
    """How often pairs of classes are likely for one image of the target (MCC, Jin et al. 2020, "Minimum class confusion
    for versatile domain adaptation", eq. 2-6): logits are divided by `TEMPERATURE`, sure images count for more."""

    TEMPERATURE = 2.5

    def forward(self, source: Activations, target: Activations, over: float) -> torch.Tensor:
        answers = (target.logits / self.TEMPERATURE).softmax(1)
        sure = 1 + torch.exp(-entropies(answers.detach()))
        weights = sure * len(answers) / sure.sum()
        together = (answers * weights[:, None]).T @ answers
        together = together / together.sum(1, keepdim=True)
        return (together.sum() - together.trace()) / answers.shape[1]


class PseudoLabels(Term):
    """Cross-entropy with the network's own answers where these are sure (self-training; Lee 2013, "Pseudo-label"),
    from `BEGIN` of the training on and counting for more and more."""

    BEGIN = 0.3

    def __init__(self, confidence: float) -> None:
        super().__init__()
        self.confidence = confidence

    def forward(self, source: Activations, target: Activations, over: float) -> torch.Tensor:
        sure, answers = target.logits.detach().softmax(1).max(1)
        kept = sure >= self.confidence
        if over < self.BEGIN or not kept.any():
            return target.logits.sum() * 0.0
        weight = (over - self.BEGIN) / (1 - self.BEGIN) * kept.float().mean()
        return weight * cross_entropy(target.logits[kept], answers[kept])


TERMS: dict[str, Callable[[int, int], Term]] = {
    "mcc": lambda width, classes: Confusion(),
    "cdan": ConditionalAdversary,
    "dann": lambda width, classes: Adversary(width),
    "dan": lambda width, classes: Discrepancy(),
    "deep_coral": lambda width, classes: Correlation(),
}
"""Each for a width of the hidden layer and a number of classes, under the name that configurations have."""


def entropies(answers: torch.Tensor) -> torch.Tensor:
    """Entropy of each answer, in nats: ``[B, C]`` to ``[B]``."""
    return torch.special.entr(answers).sum(1)


class _Reversed(torch.autograd.Function):
    """The same values; gradients with the other sign, times a factor."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor, factor: float) -> torch.Tensor:
        context.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -context.factor * gradients[0], None
