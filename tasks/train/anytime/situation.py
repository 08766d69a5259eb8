"""What is known where a run within a budget has to decide: data, contenders, and how fast this machine is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tasks.train.anytime.step import Step

BEGIN = 5.0
"""Seconds until a training takes its first step: imports, the network, its probe; images are decoded meanwhile."""
PASSES = 4.0
"""What a training step takes, in forward passes: one forward, two backward, and the random view of an image."""
FIT = {"linear": 2.0, "ridge": 2.0, "mlp": 4.0, "prototypes": 1.0, "knn": 1.0}
"""Seconds to fit a head to the features of some thousand images."""
AGAIN = 1.5
"""Times as long as it took when it was tried, a head is fitted anew: its probabilities are calibrated, too."""
EACH = 2_000
"""Images from which on a head takes longer in proportion."""


@dataclass(frozen=True)
class Contender:
    """A backbone that competes, and milliseconds from an image's file to its features."""

    name: str
    milliseconds: float


@dataclass(frozen=True)
class Situation:
    """What a plan depends on.

    Attributes:
        contenders: the one of the configuration first.
        heads, tuned: methods on cached features, and through the backbone.
        train, judged, held_out: images to learn from, that choices are made on, and of the final figure.
        overhead: seconds from a candidate to its registered version: evaluation, inspection, registration, report.
        further: images that only further tasks have labels of.
        augmented: views of each image to learn from that a frozen backbone sees beside the whole one.
        views: of which an image's features are the mean; a training, and what looks at it, takes one.
        fitted: methods of heads that have been fitted to all features, and the seconds that each took.
    """

    contenders: tuple[Contender, ...]
    heads: tuple[str, ...]
    tuned: tuple[str, ...]
    train: int
    judged: int
    held_out: int
    overhead: float
    further: int = 0
    augmented: int = 0
    views: int = 1
    fitted: tuple[tuple[str, float], ...] = ()

    @property
    def images(self) -> int:
        """What a frozen backbone looks at."""
        return (self.train + self.further) * (1 + self.augmented) + self.judged + self.held_out

    @property
    def learned(self) -> int:
        """What a head learns from."""
        return self.train * (1 + self.augmented)

    def contender(self, name: str) -> Contender:
        return next(each for each in self.contenders if each.name == name)

    def seconds_of(self, name: str, images: int) -> float:
        """Until a backbone has looked at so many images."""
        return self.contender(name).milliseconds * images / 1000

    def fitting(self, method: str) -> float:
        """Seconds of fitting a head, from what it took when it was tried; else as reckoned."""
        reckoned = FIT.get(method, 4.0) * max(1.0, self.learned / EACH)
        measured = dict(self.fitted).get(method)
        return reckoned if measured is None else max(reckoned / 4, AGAIN * measured)

    def beginning(self, name: str) -> float:
        """Seconds until a training on all images takes its first step; it begins from features of one view."""
        return BEGIN + (self.looking(name, self.images) if self.views > 1 else 0.0)

    def looking(self, name: str, judged: int) -> float:
        """Seconds of a look at so many images, as there is one after each epoch of a training."""
        return self.seconds_of(name, judged) / self.views

    def at_speed(self, name: str, milliseconds: float) -> Situation:
        """The same, with the speed of a backbone as it was measured."""
        known = tuple(
            replace(each, milliseconds=milliseconds) if each.name == name else each for each in self.contenders
        )
        return replace(self, contenders=known)

    def with_head(self, method: str, seconds: float) -> Situation:
        """The same, with the time of fitting a head as it was measured."""
        return replace(self, fitted=tuple((dict(self.fitted) | {method: seconds}).items()))

    def rate(self, name: str, method: str, done: Sequence[Step]) -> float:
        """Images that a training through a backbone learns from in a second, as measured last, of another method where
        this one has not been tried; else as reckoned."""
        tried = [each for each in done if each.kind == "tune" and each.backbone == name and each.state == "done"]
        for step in (*(each for each in reversed(tried) if each.method == method), *reversed(tried)):
            if step.took > BEGIN:
                looks = step.epochs * self.looking(name, step.judged)
                return step.seen / max(1.0, step.took - BEGIN - looks)
        return 1000 * self.views / (PASSES * self.contender(name).milliseconds)

    def reserve(self, name: str, tuned: bool) -> float:
        """Seconds to be kept for the winner: the whole way to a registered version and, of a tuned backbone, its
        features of the images that are evaluated."""
        again = BEGIN + self.seconds_of(name, self.judged + self.held_out) if tuned else 0.0
        return 1.1 * self.overhead + 3.0 + again
