"""What simple classifiers on frozen features answer about images that they have not learned from.

Features are float ``[N, width]``; targets are int64 ``[N]`` from 0 or, where an image may have several labels, bool
``[N, C]``. Where images come in groups, int64 ``[N]``, whole groups are left out: others of a group would give an image
away.
"""

from __future__ import annotations

import numpy as np

from tasks.evaluate.scores.ranking import Linear, average_precision, over_classes
from tasks.evaluate.transferability.scores import Directions, indicators

STRENGTHS = 10.0 ** np.arange(-4, 3)
"""Of the linear probe, in units of the mean variance of a direction."""


def probe(features: np.ndarray, targets: np.ndarray, groups: np.ndarray | None = None) -> Linear:
    """`merit` of a ridge regression onto the labels, of each image one on all others, at the strength that suits best.

    Exact without fitting anew: what is left of images that are left out is ``(I - H)⁻¹`` times what is left of them
    else, with H their part of the hat matrix (Rifkin & Lippert 2007, "Notes on regularized least squares", 3; for
    groups Cook & Weisberg 1982, "Residuals and influence in regression").
    """
    spread = np.std(features, 0)
    scaled = (np.asarray(features, np.float64) - np.mean(features, 0)) / np.where(
        spread > 1e-6 * spread.max(), spread, np.inf
    )
    found, wanted = Directions.of(scaled), indicators(targets)
    unit, along = (found.scale**2).mean(), found.left.T @ wanted
    together = _together(groups, len(targets))
    figures = []
    for strength in STRENGTHS * unit:
        kept = found.scale**2 / (found.scale**2 + strength)
        fitted = wanted.mean(0) + found.left @ (kept[:, None] * along)
        figures.append(merit(wanted - _of_others(wanted - fitted, found.left, kept, together), targets))
    return max(figures, key=lambda figure: figure.value)


def neighbours(features: np.ndarray, targets: np.ndarray, groups: np.ndarray | None = None, count: int = 5) -> float:
    """`merit` of the votes of an image's nearest neighbours by cosine; of equal votes, the nearer ones count."""
    return merit(votes(features, targets, groups, count), targets).value


def votes(features: np.ndarray, targets: np.ndarray, groups: np.ndarray | None = None, count: int = 5) -> np.ndarray:
    """How many of an image's nearest neighbours have each label, the nearer ones a little more: float64 ``[N, C]``."""
    found = np.asarray(features, np.float64) - np.mean(features, 0)
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    alike = found @ found.T
    np.fill_diagonal(alike, -np.inf)
    for members in _together(groups, len(targets)):
        alike[np.ix_(members, members)] = -np.inf
    near = np.argsort(-alike, axis=1, kind="stable")[:, :count]
    others = np.isfinite(np.take_along_axis(alike, near, 1))
    wanted = indicators(targets)
    given = np.zeros_like(wanted)
    for place in range(near.shape[1]):
        weight = 1 + 1e-3 * (count - place)
        given += weight * others[:, place, None] * wanted[near[:, place]]
    return given


def merit(answers: np.ndarray, targets: np.ndarray) -> Linear:
    """The share of images whose largest answer, of float ``[N, C]``, is right or, with several labels an image, the
    average precision of each label's answers, averaged over the labels."""
    if targets.ndim == 2:
        return over_classes(average_precision, targets, answers, both=False)
    return share(answers.argmax(1) == targets)


def share(right: np.ndarray) -> Linear:
    """Of images of which bool ``[N]`` is true."""
    value = float(right.mean())
    return Linear(value, (right - value) / len(right), len(right))


def _of_others(rest: np.ndarray, left: np.ndarray, kept: np.ndarray, together: list[np.ndarray]) -> np.ndarray:
    """What regressions without them leave of the images, ``[N, C]``, by what is left of them by one on all.

    Args:
        left: directions ``[N, rank]``; kept: share of each that the regularisation lets through.
        together: images that are left out with each other; all else one by one.
    """
    leverage = 1 / len(rest) + (left**2 * kept).sum(1)
    found = rest / np.maximum(1 - leverage, 1e-9)[:, None]
    for members in together:
        hat = 1 / len(rest) + (left[members] * kept) @ left[members].T
        found[members] = np.linalg.solve((1 + 1e-9) * np.eye(len(members)) - hat, rest[members])
    return found


def _together(groups: np.ndarray | None, images: int) -> list[np.ndarray]:
    """The images of each group that has several; none where all are of one, and nothing would be left to learn from."""
    if groups is None:
        return []
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [part for part in parts if 1 < len(part) < images]
