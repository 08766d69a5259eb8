"""Multinomial logistic regression for a whole path of L2 strengths at once.

For each strength l2, the minimum over W ``[C, d]`` and b ``[C]`` is found of

    Σᵢ ωᵢ · crossentropy(W xᵢ + b, yᵢ) / Σᵢ ωᵢ + l2/2 · ‖W‖²

with ωᵢ the weight of image i, which is 1 unless said. This is scikit-learn's `LogisticRegression` with
C = 1 / (l2 · Σᵢ ωᵢ). Where an image has several labels, the sum over the classes of binary cross-entropies takes the
place of the cross-entropy: a logistic regression for each class. Two things make it fast:

- The strengths share the passes over the features: a product ``[S·C, d] × [d, N]`` gives the logits of all of them,
  another one their gradients.
- The unknowns are changed so that the objective curves alike in all directions. With XᵀX/N = V diag(s) Vᵀ, its Hessian
  is (I/C - 11ᵀ/C²) ⊗ V diag(s) Vᵀ + l2 I at zero, and nowhere more than C/2 times that (Böhning 1992). So in the
  unknowns U = W V diag(s/C + l2)^½ it is near the identity however correlated the features are, and L-BFGS takes some
  thirty passes where it took hundreds. With several labels, ¼ takes the place of 1/C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch.nn.functional import softplus

from tasks.errors import DataError
from tasks.progress import Advance
from tasks.train.lbfgs import Descent, Stop

TOLERANCE = 1e-5
"""Largest entry of the gradient at a solution."""

DECOMPOSED = 4096
"""Up to this many features, or images, an eigendecomposition costs less than it saves."""

BLOCK = 1 << 20
"""Logits that are held at a time: 4 MiB, so that they stay in the processor's cache."""

TOGETHER = 1 << 24
"""Unknowns that are solved for at a time; L-BFGS keeps some thirty numbers for each: 2 GiB."""

SMALL = 1 << 26
"""Multiplications in a pass, up to which one thread is enough: some 2 ms. Threads that wait for each other at every
step would take longer, on a busy machine a hundred times as long."""

ROUGH = Stop(size=3e-4, gap=1e-4, share=1e-3, noise=1e-6, shortest=1e-6, limit=2000)
"""Where losses on other images are known to four digits: enough to choose a strength by, for a fifth of the passes."""

FINE = Stop(size=1e-4, gap=1e-5, share=1e-3, noise=1e-6, shortest=1e-6, limit=2000)
"""As scikit-learn's ``tol``: enough for a head that is used."""

STOP = Stop(size=TOLERANCE, gap=1e-6, share=1e-4, noise=1e-6, shortest=1e-6, limit=2000)


Errors = Callable[[torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]]
"""Takes logits ``[A, C, n]`` of n images and which they are; gives their losses ``[A, n]``, and these' derivatives."""


@dataclass(frozen=True)
class Solutions:
    """One minimum per strength.

    Attributes:
        weights: float32 ``[S, C, d]``, and ``biases``: float32 ``[S, C]``.
        objectives: float64 ``[S]``.
        gradients: float32 ``[S]``, the largest entry of each gradient.
        passes: int64 ``[S]``, over the features.
        converged: bool ``[S]``, whether that is as small as asked; if not, rounding or the limit of passes ended it.
    """

    weights: torch.Tensor
    biases: torch.Tensor
    objectives: torch.Tensor
    gradients: torch.Tensor
    passes: torch.Tensor
    converged: torch.Tensor


@torch.no_grad()
def solve(
    features: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    strengths: Sequence[float],
    weights: torch.Tensor | None = None,
    advance: Advance = lambda count: None,
) -> Solutions:
    """Minimise for every strength, on the device of the features; see `Regression`."""
    return Regression(features, labels, classes, weights).solve(strengths, advance)


@torch.no_grad()
def measure(solutions: Solutions, features: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropies and accuracies float64 ``[S]`` on features ``[N, d]`` with labels ``[N]``."""
    losses = torch.zeros_like(solutions.objectives)
    right = torch.zeros_like(losses)
    with _threads_for(len(features) * solutions.weights.numel()):
        for at, logits in _logits(features, solutions.weights, solutions.biases):
            wanted = labels[at].expand(len(losses), 1, -1)
            losses -= logits.log_softmax(1).gather(1, wanted).sum((1, 2), dtype=torch.float64)
            right += (logits.argmax(1) == labels[at]).sum(1)
    return losses / len(labels), right / len(labels)


class Regression:
    """The data, and what is known of them before any strength is: their principal directions.

    Args:
        features: float32 ``[N, d]``, standardised; others only take more passes.
        labels: int64 ``[N]``, below ``classes``; or, where an image may have several, zeros and ones float32
            ``[N, C]``. A class may have no image.
        weights: float32 ``[N]``, how much each image counts, such as the inverse of its class's frequency.
        errors: another loss in place of the cross-entropy for the labels; as `multinomial`, but that it is told which
            images are meant.

    Raises:
        DataError: a feature is not a finite number.
    """

    @torch.no_grad()
    def __init__(
        self, features: torch.Tensor, labels: torch.Tensor, classes: int, weights: torch.Tensor | None = None,
        errors: Errors | None = None,
    ) -> None:  # fmt: skip
        if not features.sum().isfinite():
            raise DataError(
                "some features are not finite numbers; extract them in another precision (extract.precision)"
            )
        self.labels, self.classes, self.several = labels, classes, labels.is_floating_point()
        self.errors = errors
        self.weights = None if weights is None else weights / weights.mean()
        # Leads from the coordinates that features are given in back to the features.
        self.span: torch.Tensor | None = None
        if len(features) < features.shape[1] and len(features) <= DECOMPOSED:
            # The minimum lies in the span of the images (Kimeldorf & Wahba 1971): N unknowns a class are enough.
            self.span, coordinates = torch.linalg.qr(features.T)
            features = coordinates.T.contiguous()
        self.features, width = features, features.shape[1]
        self.spectrum, self.directions = features.new_ones(width), None
        if width <= DECOMPOSED:
            with _threads_for(features.numel() * width):
                self.spectrum, self.directions = _principal_directions(features, self.weights)

    @torch.no_grad()
    def solve(
        self, strengths: Sequence[float], advance: Advance = lambda count: None, stop: Stop | None = None,
        start: torch.Tensor | None = None,
    ) -> Solutions:  # fmt: skip
        """The minimum for every strength; ``advance`` hears of strengths as they are solved.

        Args:
            stop: how near to the minimum; by default `STOP`.
            start: weights and biases ``[C, d + 1]`` to begin with, if not with those that give the classes' shares.
        """
        unknowns = self.classes * self.features.shape[1]
        with _threads_for(self.features.numel() * self.classes * len(strengths)):
            asked = torch.tensor(strengths, device=self.features.device).split(max(1, TOGETHER // unknowns))
            parts = [self._solve_together(part, advance, stop or STOP, start) for part in asked]
        return Solutions(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Solutions)))

    def _solve_together(
        self, strengths: torch.Tensor, advance: Advance, stop: Stop, given: torch.Tensor | None
    ) -> Solutions:
        """All strengths float32 ``[S]`` together, from weights of zero and biases that predict the classes' shares."""
        objectives = _Objectives(self, strengths, stop.size)
        start = self.features.new_zeros(len(strengths), self.classes, self.features.shape[1] + 1)
        if given is None:
            start[:, :, -1] = self._biases()
        else:
            weights = given[:, :-1] if self.span is None else given[:, :-1] @ self.span
            start[:, :, :-1] = weights if self.directions is None else weights @ self.directions
            start[:, :, -1] = given[:, -1]
        descent = Descent((start / objectives.scale).flatten(1))
        descent.run(objectives, stop, advance)
        weights, biases = objectives.unknowns(descent.points, torch.arange(len(strengths), device=strengths.device))
        return Solutions(
            weights if self.span is None else weights @ self.span.T,
            biases, descent.values, descent.sizes, descent.passes, descent.sizes <= stop.size,
        )  # fmt: skip

    def cost(self, logits: torch.Tensor, at: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses ``[A, n]`` of logits ``[A, C, n]`` of some images, and their derivatives ``[A, C, n]``."""
        if self.errors:
            return self.errors(logits, at)
        return (binary if self.several else multinomial)(logits, self.labels[at])

    def _biases(self) -> torch.Tensor:
        """Those under which every image is given the classes' shares: ``[C]``; zeros where labels are not all that is
        learned from."""
        if self.errors:
            return self.features.new_zeros(self.classes)
        if self.several:
            ones = ((self.labels if self.weights is None else self.labels * self.weights[:, None]).sum(0) + 1).float()
            return (ones / (len(self.labels) + 2 - ones).clamp(min=1)).log()
        shares = (self.labels.bincount(self.weights, minlength=self.classes) + 1).float().log()
        return shares - shares.mean()


class _Objectives:
    """The objectives of some strengths, as functions of the unknowns in which they curve alike.

    These are ``[C, d + 1]`` for each strength, flattened; the last column is the bias.

    Args:
        least: gradients that small are measured exactly.
    """

    def __init__(self, problem: Regression, strengths: torch.Tensor, least: float) -> None:
        self.problem, self.strengths, self.least = problem, strengths, least
        share = 0.25 if problem.several else 1 / problem.classes
        curvature = problem.spectrum * share + strengths[:, None]
        bias = curvature.new_full((len(strengths), 1), share)
        self.scale = torch.cat([curvature, bias], 1)[:, None].rsqrt()

    def unknowns(self, points: torch.Tensor, active: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights ``[A, C, d]`` and biases ``[A, C]`` at points ``[A, C·(d + 1)]`` of the strengths ``active``."""
        scaled = points.view(len(points), self.problem.classes, -1) * self.scale[active]
        weights, biases, directions = scaled[:, :, :-1], scaled[:, :, -1], self.problem.directions
        return (weights if directions is None else weights @ directions.T), biases

    def __call__(self, points: torch.Tensor, active: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Objectives float64 ``[A]``, their gradients, and the largest entries of the gradients by W and b."""
        strengths = self.strengths[active]
        weights, biases = self.unknowns(points, active)
        losses, by_weights, by_biases = self._losses(weights, biases)
        values = losses + strengths / 2 * weights.square().sum((1, 2), dtype=torch.float64)
        by_weights += strengths[:, None, None] * weights
        sizes = torch.maximum(self._largest(by_weights), by_biases.abs().amax(1))
        if self.problem.directions is not None:
            by_weights = by_weights @ self.problem.directions
        return values, (torch.cat([by_weights, by_biases[:, :, None]], 2) * self.scale[active]).flatten(1), sizes

    def _losses(self, weights: torch.Tensor, biases: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean cross-entropies float64 ``[A]`` and their gradients ``[A, C, d]`` and ``[A, C]``."""
        problem = self.problem
        count, few = len(problem.features), len(weights)
        losses = weights.new_zeros(few, dtype=torch.float64)
        by_weights, by_biases = torch.zeros_like(weights), torch.zeros_like(biases)
        for at, logits in _logits(problem.features, weights, biases):
            misses, residuals = problem.cost(logits, at)
            if problem.weights is not None:
                misses, residuals = misses * problem.weights[at], residuals * problem.weights[at]
            losses += misses.sum(1, dtype=torch.float64)
            by_biases += residuals.sum(2)
            by_weights += _product(residuals.flatten(0, 1), problem.features[at]).view_as(weights)
        return losses / count, by_weights / count, by_biases / count

    def _largest(self, by_weights: torch.Tensor) -> torch.Tensor:
        """The largest entry of each gradient ``[A, C, d]``, by the features themselves."""
        span = self.problem.span
        if span is None:
            return by_weights.abs().amax((1, 2))
        # The root mean square is never more than the largest and costs less: where it is too large, it says enough.
        sizes = by_weights.square().sum(2).amax(1).div(len(span)).sqrt()
        near = sizes <= self.least
        sizes[near] = (by_weights[near] @ span.T).abs().amax((1, 2))
        return sizes


def multinomial(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropies ``[A, n]`` of logits ``[A, C, n]`` for labels ``[n]``, and their
    derivatives ``[A, C, n]``."""
    wanted = labels.expand(len(logits), 1, -1)
    logs = logits.log_softmax(1)
    misses = -logs.gather(1, wanted)[:, 0]
    return misses, logs.exp_().scatter_add_(1, wanted, logs.new_full((1, 1, 1), -1).expand(wanted.shape))


def binary(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `multinomial`, of binary cross-entropies summed over the classes, for zeros and ones ``[n, C]``."""
    right = labels.T
    return (softplus(logits) - right * logits).sum(1), logits.sigmoid() - right


@contextmanager
def _threads_for(multiplications: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if multiplications <= SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _logits(
    features: torch.Tensor, weights: torch.Tensor, biases: torch.Tensor
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Logits ``[A, C, n]`` of n images at a time; classes come first so that softmax works on vectors of images."""
    rows = max(1024, BLOCK // biases.numel())
    for start in range(0, len(features), rows):
        at = slice(start, start + rows)
        yield at, _product(weights.flatten(0, 1), features[at].T).view(*biases.shape, -1) + biases[:, :, None]


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """``left @ right`` in float32.

    On processors oneDNN is asked for it by name. Torch itself would take MKL, which makes half as much of AVX-512
    on processors that are not Intel's, and still less where ``left`` has few rows.
    """
    if left.device.type == "cpu" and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(left, right.T, None, "none", [], "")
    return left @ right


def _principal_directions(features: torch.Tensor, weights: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues ``[d]`` and eigenvectors ``[d, d]``, in columns, of the weighted mean of x xᵀ."""
    count, width = features.shape
    weighted = features if weights is None else features * weights[:, None]
    gram = features.new_zeros(width, width)
    panel = max(256, width // 4)
    for at in range(0, width, panel):
        # `eigh` reads no more than the upper triangle.
        gram[at : at + panel, at:] = weighted[:, at : at + panel].T @ features[:, at:]
    spectrum, directions = torch.linalg.eigh(gram.double() / count, UPLO="U")
    # What is less is rounding, and nothing to take long steps for.
    least = torch.finfo(features.dtype).eps * spectrum[-1]
    return spectrum.clamp(min=least).float(), directions.float()
