"""Records of a run within a budget: what was tried, and what was chosen. All others, and the tables' schemas, are in
`tasks.records`."""

from __future__ import annotations

from tasks.place import Place
from tasks.record import Record


class Trial(Record):
    """A method fitted to a part of the training images, for the sake of its score; the model is not kept.

    Attributes:
        score: accuracy, or average precision, on the images that it was judged by.
        frozen: the same of a linear head on the frozen features of the same images; of a head, its own.
        curve: the score after each epoch.
        images, judged: that were learned from, and that the score is over.
        seen: images that a training through the backbone has passed, each as often as it did; 0 of others.
    """

    method: str
    score: float
    frozen: float
    curve: tuple[float, ...] = ()
    images: int
    judged: int
    seen: int = 0


class Choice(Record):
    """What was tried within a budget, and what was chosen of it.

    Attributes:
        steps: a row for each step, in order (Parquet).
        backbone, method: what was chosen.
        why: in words.
        budget, spent: seconds, from the command on until the choice was made.
    """

    steps: Place
    backbone: str
    method: str
    why: str
    budget: float
    spent: float
