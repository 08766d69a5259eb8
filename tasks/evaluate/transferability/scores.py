"""Scores of frozen features against labels: the higher, the better a backbone suits a task.

Features are float ``[N, width]``, targets int64 ``[N]`` from 0 or, where an image may have several labels, bool
``[N, C]``. Of up to some thousand images, each takes seconds at any width: what is decomposed is the matrix of products
of images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.mixture import GaussianMixture


@dataclass(frozen=True)
class Directions:
    """Features in the directions that they vary in: ``left * scale`` are their coordinates.

    Args:
        left: orthonormal columns, ``[N, rank]``.
        scale: singular values, the largest first, ``[rank]``.
        width: of the features.
    """

    left: np.ndarray
    scale: np.ndarray
    width: int

    @property
    def coordinates(self) -> np.ndarray:
        return self.left * self.scale

    @classmethod
    def of(cls, features: np.ndarray) -> Directions:
        """Those of a matrix, as a singular value decomposition gives them."""
        features = np.asarray(features, np.float64)
        if features.shape[1] <= len(features):
            left, scale, _ = np.linalg.svd(features, full_matrices=False)
        else:
            squares, left = np.linalg.eigh(features @ features.T)
            left, scale = left[:, ::-1], np.sqrt(np.maximum(squares[::-1], 0))
        there = scale > 1e-7 * max(scale[0], 1e-300)
        return cls(left[:, there], scale[there], features.shape[1])

    @classmethod
    def around(cls, features: np.ndarray) -> Directions:
        """Those that features vary in around their mean, as `h_score` and `n_leep` take them: principal components."""
        return cls.of(np.asarray(features, np.float64) - np.mean(features, 0))


def log_me(features: np.ndarray, targets: np.ndarray, rounds: int = 50) -> float:
    """Logarithm of the maximum evidence of a Bayesian linear model of each class's indicator, an image, mean over
    classes (You et al. 2021, "LogME: practical assessment of pre-trained models for transfer learning", eq. 2; the
    fixed point of You et al. 2022, "Ranking and tuning pre-trained models", algorithm 3)."""
    found = Directions.of(features)
    return float(np.mean([_evidence(found, target, rounds) for target in indicators(targets).T]))


def _evidence(found: Directions, target: np.ndarray, rounds: int) -> float:
    images, squares = len(target), found.scale**2
    along = (found.left.T @ target) ** 2
    beyond = max(float(target @ target - along.sum()), 0.0)
    alpha = beta = 1.0
    for _ in range(rounds):
        ratio = alpha / beta
        effective = (squares / (squares + ratio)).sum()
        weights = (squares * along / (squares + ratio) ** 2).sum()
        residual = (along / (1 + squares / ratio) ** 2).sum() + beyond
        alpha, beta = effective / max(weights, 1e-12), (images - effective) / max(residual, 1e-12)
        if abs(alpha / beta - ratio) <= 1e-4 * ratio:
            break
    ratio = alpha / beta
    weights = (squares * along / (squares + ratio) ** 2).sum()
    residual = (along / (1 + squares / ratio) ** 2).sum() + beyond
    # Directions without variance cancel against the prior.
    spread = np.log(alpha + beta * squares).sum() - len(squares) * np.log(alpha)
    evidence = images * np.log(beta) - spread - beta * residual - alpha * weights - images * np.log(2 * np.pi)
    return float(evidence / 2 / images)


def h_score(found: Directions, targets: np.ndarray) -> float:
    """Share of the features' covariance that class means account for, with the covariance shrunk as by Ledoit & Wolf
    (2004): ``(1 - a) tr(S_a^-1 B)`` of Ibrahim et al. 2022, "Newer is not always better: rethinking transferability
    metrics", eq. 8; without shrinking it is Bao et al.'s (2019). With several labels an image, the mean over labels,
    each of which makes two classes: with it and without."""
    images = len(targets)
    shrinkage, level = shrink(found, images)
    inverse = 1 / ((1 - shrinkage) * found.scale**2 / images + shrinkage * level)
    sides = [np.stack([label, ~label], 1) for label in targets.T] if targets.ndim == 2 else [indicators(targets)]
    between = np.mean([_between(found.coordinates, each) for each in sides], axis=0)
    return float((1 - shrinkage) * (inverse * between).sum())


def shrink(found: Directions, images: int) -> tuple[float, float]:
    """How far a covariance of centred features is drawn to a multiple of the identity, and to which (Ledoit & Wolf
    2004, "A well-conditioned estimator for large-dimensional covariance matrices", eq. 14)."""
    variances = found.scale**2 / images
    level = variances.sum() / found.width
    apart = (variances**2).sum() / found.width - level**2
    lengths = (found.coordinates**2).sum(1)
    error = ((lengths**2).mean() - (variances**2).sum()) / images / found.width
    return (float(np.clip(error / apart, 0, 1)) if apart > 0 else 1.0), float(level)


def n_leep(found: Directions, labels: np.ndarray, seed: int = 0, each: int = 5) -> float:
    """Mean logarithm of the probability that the clusters of an image give to its class (Li et al. 2021, "Ranking
    neural checkpoints", 3.2): principal components of 80% of the variance, a mixture of ``each`` Gaussians a class.
    For one label an image, int64 ``[N]``."""
    classes = int(labels.max()) + 1
    shares = np.cumsum(found.scale**2) / (found.scale**2).sum()
    reduced = found.coordinates[:, : int(np.searchsorted(shares, 0.8)) + 1]
    # In units of their spread, for the floor of the mixture's variances is absolute.
    reduced = reduced / max(reduced.std(), 1e-300)
    count = max(1, min(each * classes, len(labels) // 4))
    mixture = GaussianMixture(count, covariance_type="diag", reg_covar=1e-3, random_state=seed, max_iter=50, tol=1e-2)
    clusters = mixture.fit(reduced).predict_proba(reduced)
    joint = indicators(labels).T @ clusters
    likely = (clusters @ (joint / np.maximum(joint.sum(0), 1e-12)).T)[np.arange(len(labels)), labels]
    return float(np.log(np.maximum(likely, 1e-12)).mean())


def indicators(targets: np.ndarray) -> np.ndarray:
    """Targets of either kind as zeros and ones: float64 ``[N, C]``."""
    return targets.astype(np.float64) if targets.ndim == 2 else np.eye(int(targets.max()) + 1)[targets]


def _between(coordinates: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Variance of centred coordinates ``[N, rank]`` between the means of classes, in each direction.

    Args:
        shares: zeros and ones ``[N, C]``, one in each row.
    """
    counts = shares.sum(0)
    means = shares.T @ coordinates / np.maximum(counts, 1)[:, None]
    return np.asarray(counts @ means**2 / len(coordinates))
