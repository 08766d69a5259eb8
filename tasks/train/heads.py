"""Heads: what is put on top of a backbone, and how it is kept in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.functional import embedding_bag, normalize

from tasks.extract import tensors
from tasks.train.fusion.networks import Ensemble, Gated
from tasks.train.fusion.parts import Part, scales
from tasks.train.kinds import Answer
from tasks.train.targets import kind_of

Kind = Literal["linear", "mlp", "cosine", "neighbours", "gated", "ensemble"]

TOGETHER = 1 << 24
"""Similarities of images to examples that are held at a time: 64 MiB."""

NUMBER = 2
"""Outputs of a head for a number: a mean, and the logarithm of a variance."""

NARROW = 20.0
"""Largest logarithm of a variance, and of its inverse, in units of the target's: beyond, exponentials overflow."""

LEAST_SPREAD = 0.1
"""Standard deviation that a feature is divided by at least, in units of the median of those above zero. A feature that
is almost constant over the images as they are would be a hundred times as large in a random part of an image, or once
the backbone has moved."""


NEVER = -1e4
"""Logit of a class without images: nothing is near to what nobody has seen."""


class Cosine(nn.Module):
    """Cosines between features ``[N, width]`` and one prototype for each class: ``[N, classes]``, in -1..1; `NEVER`
    for a class without one."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes, width))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        cosines = normalize(features, dim=1) @ normalize(self.weight, dim=1).T
        return cosines.masked_fill((self.weight == 0).all(1), NEVER)


class Neighbours(nn.Module):
    """Logarithms of the shares of votes that the nearest examples give to the classes, or of their odds where an image
    may have ``several``; of a ``number``, the logarithm of the variance beside the mean, in the columns of
    `as_examples`.

    The ``count`` examples of the highest cosine vote, each with weight exp(cosine / 0.07) (Wu et al. 2018,
    "Unsupervised feature learning via non-parametric instance discrimination", 3.4).
    """

    SHARPNESS = 0.07
    SMALLEST = 1e-3

    examples: torch.Tensor
    targets: torch.Tensor
    count: torch.Tensor

    def __init__(self, width: int, classes: int, examples: int, several: bool = False, number: bool = False) -> None:
        super().__init__()
        self.several, self.number = several, number
        self.register_buffer("examples", torch.zeros(examples, width))
        self.register_buffer("targets", torch.zeros(examples, classes))
        self.register_buffer("count", torch.tensor(1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.votes(features, [int(self.count)])[0]

    def votes(self, features: torch.Tensor, counts: list[int]) -> torch.Tensor:
        """As `forward`, for several numbers of neighbours: ``[len(counts), N, classes]``."""
        parts = []
        for part in normalize(features, dim=1).split(max(1, TOGETHER // len(self.examples))):
            nearest = (part @ self.examples.T).topk(min(max(counts), len(self.examples)))
            weights = ((nearest.values - nearest.values[:, :1]) / self.SHARPNESS).exp()
            parts.append(torch.stack([self._shares(nearest.indices, weights, count) for count in counts]))
        shares = torch.cat(parts, dim=1)
        if self.number:
            return shares
        shares = shares.clamp(self.SMALLEST, 1 - self.SMALLEST)
        return shares.logit() if self.several else shares.log()

    def _shares(self, nearest: torch.Tensor, weights: torch.Tensor, count: int) -> torch.Tensor:
        """Shares ``[n, classes]`` of the votes of the first ``count`` of the ``nearest`` examples ``[n, k]``."""
        indices, weights = nearest[:, :count], weights[:, :count]
        # Sums without the labels of every voter, ``[n, k, classes]``, which take gigabytes.
        votes = embedding_bag(indices, self.targets, mode="sum", per_sample_weights=weights)
        total = weights.sum(1, keepdim=True)
        return self._scattered(votes, total) if self.number else votes / total

    @staticmethod
    def _scattered(votes: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        """Means of standardised numbers, and logarithms of the variances about them, ``[n, 2]``: with one vote more, of
        weight 1 and a variance of 1, as a single neighbour says nothing of how far numbers lie apart."""
        means, squares = (votes / total).unbind(1)
        apart = (squares - means.square()).clamp(min=0) * total[:, 0]
        return torch.stack([means, ((apart + 1) / (total[:, 0] + 1)).log()], 1)


def as_examples(numbers: torch.Tensor) -> torch.Tensor:
    """Standardised numbers ``[N]`` as `Neighbours` holds them: beside their squares, ``[N, 2]``."""
    return torch.stack([numbers, numbers.square()], 1)


class Head(nn.Module):
    """Maps features float32 ``[N, width]`` to class logits ``[N, classes]`` or, of a number, to its mean and the
    logarithm of its variance, ``[N, 2]``, in the target's unit.

    Features are standardised with the statistics of the training images first, so that one step size and one
    range of regularisation fit every backbone. Of several parts, layers or backbones, each counts by its weight,
    however wide it is (`tasks.train.fusion.parts.scales`). Logits are divided by a temperature, and standard deviations
    of a number multiplied by it; see `tasks.train.calibration`.

    Attributes:
        multi_label: whether each logit is a decision of its own (sigmoid), as where an image has several labels.
        number: whether it tells a number; ``layers`` then give mean and logarithm of the variance in units in which
            the training images' numbers have mean 0 and variance 1, which ``centre`` and ``scale`` lead back from.
        parts: what features are put together from; by default one part.
    """

    mean: torch.Tensor
    std: torch.Tensor
    temperature: torch.Tensor
    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self, width: int, classes: int, hidden: int | None = None, *, kind: Kind | None = None, examples: int = 0,
        multi_label: bool = False, number: bool = False, parts: Sequence[Part] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.width, self.classes, self.hidden, self.examples = width, classes, hidden, examples
        self.kind: Kind = kind or ("linear" if hidden is None else "mlp")
        self.multi_label, self.number = multi_label, number
        self.parts = tuple(parts) or (Part(width),)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("temperature", torch.ones(()))
        if number:
            self.register_buffer("centre", torch.zeros(()))
            self.register_buffer("scale", torch.ones(()))
        self.layers = _layers(self)

    @classmethod
    def suited_to(cls, targets: torch.Tensor, width: int, classes: int, hidden: int | None = None, **form: Any) -> Head:
        """A head for what `targets` stand for (see `tasks.train.targets.kind_of`); it knows centre and scale of
        numbers."""
        kind = kind_of(targets)
        outputs = NUMBER if kind == "number" else classes
        head = cls(width, outputs, hidden, multi_label=kind == "labels", number=kind == "number", **form)
        head.to(targets.device)
        if head.number:
            head.centre.copy_(targets.mean())
            spread = targets.std(correction=0)
            head.scale.copy_(torch.where(spread > 0, spread, 1.0))
        return head

    @property
    def tells(self) -> Answer:
        """What kind of answer it gives."""
        return "number" if self.number else "labels" if self.multi_label else "class"

    def standardise_like(self, features: torch.Tensor) -> Head:
        """Take the statistics from training features ``[N, width]``. What hardly varies is divided by `LEAST_SPREAD`
        of the median deviation of what varies at all of its part."""
        self.mean.copy_(features.mean(0))
        deviations = features.std(0, correction=0).split([part.width for part in self.parts])
        scaled = zip(deviations, scales(self.parts), strict=True)
        self.std.copy_(torch.cat([_at_least(std) * scale for std, scale in scaled]))
        return self

    def standardised(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[N, width]`` as ``layers`` take them."""
        return (features - self.mean).div_(self.std)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.answers(self.layers(self.standardised(features)))

    def answers(self, outputs: torch.Tensor) -> torch.Tensor:
        """What outputs ``[N, classes]`` of ``layers`` stand for: logits over the temperature, or mean and logarithm of
        the variance in the target's unit."""
        if not self.number:
            return outputs / self.temperature
        variances = outputs[:, 1].clamp(-NARROW, NARROW) + 2 * (self.scale * self.temperature).log()
        return torch.stack([self.centre + self.scale * outputs[:, 0], variances], 1)

    def standardised_numbers(self, numbers: torch.Tensor) -> torch.Tensor:
        """Numbers ``[N]`` in the units that ``layers`` give them in."""
        return (numbers - self.centre) / self.scale

    def save(self, path: Path) -> None:
        """Write weights and what it takes to rebuild the head to a safetensors file."""
        shape = {
            "width": self.width, "classes": self.classes, "hidden": self.hidden, "kind": self.kind,
            "examples": self.examples, "multi_label": self.multi_label, "parts": self.parts,
            **({"number": True} if self.number else {}),
        }  # fmt: skip
        tensors.write(path, self.state_dict(), {"head": json.dumps(shape, sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> Head:
        """Read a head back, in eval mode."""
        state, metadata = tensors.read(path)
        shape = json.loads(metadata["head"])
        head = cls(**shape | {"parts": [Part(*part) for part in shape.get("parts", ())]})
        # Heads of earlier versions had none.
        head.load_state_dict({"temperature": torch.ones(())} | state)
        return head.eval()


def _at_least(std: torch.Tensor) -> torch.Tensor:
    varies = std[std > 0]
    return std.clamp(min=LEAST_SPREAD * float(varies.median()) if len(varies) else 1.0)


def _layers(head: Head) -> nn.Module:
    width, classes = head.width, head.classes
    widths = [part.width for part in head.parts]
    match head.kind:
        case "linear":
            return nn.Linear(width, classes)
        case "mlp":
            assert head.hidden is not None
            return nn.Sequential(nn.Linear(width, head.hidden), nn.ReLU(), nn.Linear(head.hidden, classes))
        case "cosine":
            return Cosine(width, classes)
        case "neighbours":
            return Neighbours(width, classes, head.examples, head.multi_label, head.number)
        case "gated":
            assert head.hidden is not None
            return Gated(widths, classes, head.hidden)
        case "ensemble":
            return Ensemble(widths, classes, head.multi_label)


@torch.inference_mode()
def predict_probabilities(head: Head, features: torch.Tensor) -> torch.Tensor:
    """Probabilities float32 ``[N, classes]`` for features ``[N, width]``, of one class or of each."""
    return as_probabilities(head(features), head.multi_label)


@torch.inference_mode()
def predict_numbers(head: Head, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a head for a number tells of features ``[N, width]``: means and standard deviations float32 ``[N]`` of
    Gaussians, in the target's unit."""
    return as_numbers(head(features))


def as_numbers(outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A head's outputs ``[N, 2]`` as means and standard deviations ``[N]``."""
    means, variances = outputs.float().unbind(1)
    return means, (variances / 2).exp()


def as_probabilities(logits: torch.Tensor, multi_label: bool) -> torch.Tensor:
    """Logits ``[N, classes]`` as probabilities, of one class or of each."""
    return logits.sigmoid() if multi_label else logits.softmax(1)
