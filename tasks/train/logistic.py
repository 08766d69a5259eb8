"""Multinomial logistic regression for a whole path of L2 strengths at once.

For each strength ``l2`` the minimum over ``W [C, d]`` and ``b [C]`` of

    Σᵢ wᵢ · crossentropy(W xᵢ + b, yᵢ) / Σᵢ wᵢ + l2/2 · ‖W‖²

is found. Three things make it fast:

- The strengths share each pass over the features: one product ``[N, d] × [d, S·C]`` gives the logits of all of them,
  another one all gradients.
- The unknowns are changed so that all directions curve alike. The Hessian at zero is (I/C - 11ᵀ/C²) ⊗ XᵀX/N + l2 I, and
  everywhere at most (I/2 - 11ᵀ/2C) ⊗ XᵀX/N + l2 I (Böhning 1992). With XᵀX/N = V diag(s) Vᵀ, the unknowns
  U = W V diag(s/C + l2)^½ have a Hessian near the identity, however correlated the features are.
- Where the device multiplies bf16 natively, most of the way is gone in it; the last steps are float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tasks.progress import Advance
from tasks.train.lbfgs import Descent, Stop

TOLERANCE = 1e-5
"""Largest entry of the gradient at a solution."""

DECOMPOSED = 4096
"""Up to this many features, or else images, an eigendecomposition costs less than it saves."""

ROUGH_PAYS = 1 << 30
"""Multiplications in a pass from which on bf16 saves more than the copy of the features costs."""

BLOCK = 1 << 20
"""Logits that are held at a time: 4 MiB, so that they stay in the processor's cache."""

TOGETHER = 1 << 25
"""Unknowns that are solved for at a time; L-BFGS keeps some twenty numbers for each."""

PART=4
EXACTLY = Stop(size=TOLERANCE, gap=1e-5, noise=1e-6, shortest=1e-6, limit=1000)
ROUGHLY = Stop(size=1e-3, gap=1e-2, noise=1e-4, shortest=0.05, limit=50)


@dataclass(frozen=True)
class Solutions:
    """One minimum per strength.

    Attributes:
        weights: float32 ``[S, C, d]``; biases: float32 ``[S, C]``.
        objectives: float64 ``[S]``; gradients: float32 ``[S]``, the largest entry of each gradient.
        passes: int64 ``[S]``, passes over the features; converged: bool ``[S]``, whether the gradient is small enough.
    """

    weights: torch.Tensor
    biases: torch.Tensor
    objectives: torch.Tensor
    gradients: torch.Tensor
    passes: torch.Tensor
    converged: torch.Tensor


def solve(
    features: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    strengths: Sequence[float],
    weights: torch.Tensor | None = None,
    advance: Advance = lambda count: None,
) -> Solutions:
    """Minimise for every strength, on the device of the features.

    Args:
        features: float32 ``[N, d]``, of mean 0 and similar scale: others take more passes.
        labels: int64 ``[N]``; a class may have none.
        strengths: positive.
        weights: float32 ``[N]``, how much each image counts; None counts all alike.
        advance: hears of strengths as they are solved.
    """
    count, width = features.shape
    if count < width and count <= DECOMPOSED:
        # The minimum lies in the span of the images (Kimeldorf & Wahba 1971): N unknowns a class are enough.
        span, coordinates = torch.linalg.qr(features.T)
        problem = _Problem(coordinates.T.contiguous(), labels, classes, weights, span)
    else:
        problem = _Problem(features, labels, classes, weights)
    at_once = max(1, TOGETHER // (classes * problem.features.shape[1]))
    parts = [problem.solve(part, advance) for part in torch.tensor(strengths, device=features.device).split(at_once)]
    return Solutions(*(torch.cat([getattr(part, name) for part in parts]) for name in Solutions.__dataclass_fields__))


class _Problem:
    """The data and what is known of them before any strength is: their principal directions."""

    def __init__(
        self,
        features: torch.Tensor,
        labels: torch.Tensor,
        classes: int,
        weights: torch.Tensor | None,
        span: torch.Tensor | None = None,
    ) -> None:
        self.features, self.labels, self.classes, self.span = features, labels, classes, span
        # Mean 1, so that sums are means.
        self.weights = None if weights is None else weights.float() / weights.double().mean().float()
        width = features.shape[1]
        if width <= DECOMPOSED:
            self.spectrum, self.directions = _principal_directions(features, self.weights)
        else:
            self.spectrum, self.directions = features.new_ones(width), None

    def solve(self, strengths: torch.Tensor, advance: Advance) -> Solutions:
        """All strengths float32 ``[S]`` together."""
        count, width = self.features.shape
        plain = torch.zeros(len(strengths), self.classes, width + 1, device=self.features.device)
        counts = self.labels.bincount(self.weights, minlength=self.classes) + 1
        prior = counts.float().log()
        plain[:, :, -1] = prior - prior.mean()
        pass_ = _Pass(self, strengths)
        descent = Descent((plain / pass_.scale).flatten(1))
        if count * width * len(strengths) * self.classes >= ROUGH_PAYS and _multiplies_bf16(self.features.device):
            rough = _Pass(self, strengths, True)
            descent.run(rough, ROUGHLY)
        descent.run(pass_, EXACTLY, advance)
        found, biases = pass_.unknowns(descent.points, slice(None))
        return Solutions(
            found if self.span is None else found @ self.span.T,
            biases, descent.values, descent.sizes, descent.passes, descent.done,
        )  # fmt: skip


class _Pass:
    """One pass over the features: objectives and gradients of some strengths, in the unknowns that curve alike.

    The unknowns of a strength are ``[C, d + 1]``, flattened; the last column is the bias.
    """

    def __init__(self, problem: _Problem, strengths: torch.Tensor, part=False) -> None:
        self.problem, self.strengths = problem, strengths
        self.features, self.labels = problem.features, problem.labels
        if part: self.features, self.labels=self.features[::PART].contiguous(), self.labels[::PART].contiguous()
        curvature = problem.spectrum / problem.classes + strengths[:, None]
        bias = curvature.new_full((len(strengths), 1), 1 / problem.classes)
        self.scale = torch.cat([curvature, bias], 1)[:, None].rsqrt()

    def unknowns(self, points: torch.Tensor, active: torch.Tensor | slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights ``[A, C, d]`` and biases ``[A, C]`` at ``points [A, C·(d + 1)]``."""
        plain = points.view(len(points), self.problem.classes, -1) * self.scale[active]
        weights, biases = plain[:, :, :-1], plain[:, :, -1]
        directions = self.problem.directions
        return (weights if directions is None else weights @ directions.T), biases

    def __call__(self, points: torch.Tensor, active: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Objectives float64 ``[A]``, gradients ``[A, C·(d + 1)]`` and their largest entries in ``W`` and ``b``."""
        strengths = self.strengths[active]
        weights, biases = self.unknowns(points, active)
        losses, by_weights, by_biases = self._sums(weights, biases)
        values = losses + strengths.double() / 2 * weights.square().sum((1, 2), dtype=torch.float64)
        by_weights = by_weights + strengths[:, None, None] * weights
        sizes = torch.maximum(self._largest(by_weights), by_biases.abs().amax(1))
        if self.problem.directions is not None:
            by_weights = by_weights @ self.problem.directions
        gradient = torch.cat([by_weights, by_biases[:, :, None]], 2) * self.scale[active]
        return values, gradient.flatten(1), sizes

    def _sums(
        self, weights: torch.Tensor, biases: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean cross-entropies float64 ``[A]`` and their gradients ``[A, C, d]`` and ``[A, C]``."""
        few, classes, width = weights.shape
        count = len(self.features)
        rows = max(1024, BLOCK // (few * classes))
        weights = weights.reshape(-1, width)
        losses = torch.zeros(few, dtype=torch.float64, device=weights.device)
        by_weights, by_biases = torch.zeros_like(weights), torch.zeros_like(biases)
        for at in range(0, count, rows):
            features = self.features[at : at + rows]
            # Classes before images: softmax then works on whole vectors of images.
            logits = _product(weights, features.T).view(few, classes, -1) + biases[:, :, None]
            logs = logits.log_softmax(1)
            labels = self.labels[at : at + rows].expand(few, 1, -1)
            right = logs.gather(1, labels)[:, 0]
            residuals = logs.exp_().scatter_add_(1, labels, torch.full_like(labels, -1, dtype=torch.float32))
            if self.problem.weights is not None:
                share = self.problem.weights[at : at + rows]
                right, residuals = right * share, residuals * share
            losses -= right.sum(1, dtype=torch.float64)
            by_biases += residuals.sum(2)
            by_weights += _product(residuals.view(few * classes, -1), features)
        return losses / count, by_weights.view(few, classes, width) / count, by_biases / count

    def _largest(self, by_weights: torch.Tensor) -> torch.Tensor:
        """The largest entry of each gradient ``[A, C, d]``, in the features' own directions."""
        span = self.problem.span
        if span is None:
            return by_weights.abs().amax((1, 2))
        # The root mean square is at most the largest, and costs nothing: the rest is only looked at where it matters.
        sizes = by_weights.square().sum(2).amax(1).div(len(span)).sqrt()
        near = sizes <= TOLERANCE
        sizes[near] = (by_weights[near] @ span.T).abs().amax((1, 2))
        return sizes


def _principal_directions(features: torch.Tensor, weights: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues ``[d]`` and eigenvectors ``[d, d]`` (columns) of the weighted mean of x xᵀ."""
    count, width = features.shape
    gram = features.new_zeros(width, width)
    panel = max(256, width // 4)
    scaled = features if weights is None else features * weights[:, None]
    for at in range(0, width, panel):
        # The upper triangle is all that is read.
        gram[at : at + panel, at:] = scaled[:, at : at + panel].T @ features[:, at:]
    spectrum, directions = torch.linalg.eigh(gram.double() / count, UPLO="U")
    return spectrum.clamp(min=0).float(), directions.float()


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """``left @ right``. On processors oneDNN does it, in full float32: MKL, which torch calls by itself, leaves half of
    AVX-512 unused where the processor is not Intel's."""
    if left.device.type == "cpu" and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(left, right.T, None, "none", [], "")
    return left @ right


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
