"""Scores of frozen features against labels: the higher, the better a backbone suits a task.

Features are float ``[N, width]``, labels int64 ``[N]`` from 0. Of up to some thousand images, each takes seconds at
any width: what is decomposed is the matrix of products of images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

STRENGTHS = 10.0 ** np.arange(-4, 3)
"""Of the linear probe, in units of the mean variance of a direction."""


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


def log_me(features: np.ndarray, labels: np.ndarray, rounds: int = 50) -> float:
    """Logarithm of the maximum evidence of a Bayesian linear model of each class's indicator, an image, mean over
    classes (You et al. 2021, "LogME: practical assessment of pre-trained models for transfer learning", eq. 2; the
    fixed point of You et al. 2022, "Ranking and tuning pre-trained models", algorithm 3)."""
    found = Directions.of(features)
    return float(np.mean([_evidence(found, target, rounds) for target in _indicators(labels).T]))


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


def h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """Share of the features' covariance that class means account for, with the covariance shrunk as by Ledoit & Wolf
    (2004): ``(1 - a) tr(S_a^-1 B)`` of Ibrahim et al. 2022, "Newer is not always better: rethinking transferability
    metrics", eq. 8; without shrinking it is Bao et al.'s (2019)."""
    centred = np.asarray(features, np.float64) - np.mean(features, 0)
    found = Directions.of(centred)
    images = len(centred)
    shrinkage, level = shrink(found, images)
    means = _class_means(found.coordinates, labels)
    inverse = 1 / ((1 - shrinkage) * found.scale**2 / images + shrinkage * level)
    return float((1 - shrinkage) * (inverse * (means**2).mean(0)).sum())


def shrink(found: Directions, images: int) -> tuple[float, float]:
    """How far a covariance of centred features is drawn to a multiple of the identity, and to which (Ledoit & Wolf
    2004, "A well-conditioned estimator for large-dimensional covariance matrices", eq. 14)."""
    variances = found.scale**2 / images
    level = variances.sum() / found.width
    apart = (variances**2).sum() / found.width - level**2
    lengths = (found.coordinates**2).sum(1)
    error = ((lengths**2).mean() - (variances**2).sum()) / images / found.width
    return (float(np.clip(error / apart, 0, 1)) if apart > 0 else 1.0), float(level)


def n_leep(features: np.ndarray, labels: np.ndarray, seed: int = 0, each: int = 5) -> float:
    """Mean logarithm of the probability that the clusters of an image give to its class (Li et al. 2021, "Ranking
    neural checkpoints", 3.2): principal components of 80% of the variance, a mixture of ``each`` Gaussians a class."""
    classes = int(labels.max()) + 1
    reduced = PCA(0.8, svd_solver="full").fit_transform(Directions.of(features).coordinates)
    count = max(1, min(each * classes, len(labels) // 4))
    mixture = GaussianMixture(count, covariance_type="diag", reg_covar=1e-3, random_state=seed, max_iter=50, tol=1e-2)
    clusters = mixture.fit(reduced).predict_proba(reduced)
    joint = _indicators(labels).T @ clusters
    likely = (clusters @ (joint / np.maximum(joint.sum(0), 1e-12)).T)[np.arange(len(labels)), labels]
    return float(np.log(np.maximum(likely, 1e-12)).mean())


def nearest_hits(features: np.ndarray, labels: np.ndarray, count: int = 5) -> np.ndarray:
    """Which images most of their nearest neighbours by cosine would label right: bool ``[N]``; of equal votes, the
    nearer ones count."""
    found = np.asarray(features, np.float64) - np.mean(features, 0)
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    alike = found @ found.T
    np.fill_diagonal(alike, -np.inf)
    near = np.argsort(-alike, axis=1, kind="stable")[:, :count]
    votes = np.zeros((len(labels), int(labels.max()) + 1))
    for place in range(near.shape[1]):
        np.add.at(votes, (np.arange(len(labels)), labels[near[:, place]]), 1 + 1e-3 * (count - place))
    return np.asarray(votes.argmax(1) == labels)


def probe_hits(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which images a ridge regression on all others would label right, its strength the one that labels most: bool
    ``[N]``. Exact without fitting anew (Rifkin & Lippert 2007, "Notes on regularized least squares", 3)."""
    spread = np.std(features, 0)
    scaled = (np.asarray(features, np.float64) - np.mean(features, 0)) / np.where(
        spread > 1e-6 * spread.max(), spread, np.inf
    )
    found, targets = Directions.of(scaled), _indicators(labels)
    targets -= targets.mean(0)
    unit, along = (found.scale**2).mean(), found.left.T @ targets
    best = np.zeros(len(labels), bool)
    for strength in STRENGTHS * unit:
        kept = found.scale**2 / (found.scale**2 + strength)
        leverage = 1 / len(labels) + (found.left**2 * kept).sum(1)
        residual = (targets - found.left @ (kept[:, None] * along)) / np.maximum(1 - leverage, 1e-9)[:, None]
        hits = (targets - residual).argmax(1) == labels
        best = hits if hits.sum() > best.sum() else best
    return best


def _indicators(labels: np.ndarray) -> np.ndarray:
    return np.eye(int(labels.max()) + 1)[labels]


def _class_means(coordinates: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of each image, the mean of its class."""
    shares = _indicators(labels)
    means = shares.T @ coordinates / np.maximum(shares.sum(0), 1)[:, None]
    return np.asarray(means[labels])
