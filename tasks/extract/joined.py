"""Features of several backbones, each in a space of its own, side by side as of one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

from tasks.extract.keys import Hashes, keys_of
from tasks.extract.store import FeatureStore
from tasks.fingerprint import fingerprint
from tasks.place import note_used
from tasks.records import FeatureSet


def join(sets: Sequence[FeatureSet]) -> FeatureSet:
    """The features of each image by several backbones as one set: those of the first, and beside them the others'."""
    first, *others = sets
    if not others:
        return first
    return first.model_copy(
        update={
            "fingerprint": fingerprint(*(each.fingerprint for each in sets)),
            "beside": tuple(others),
            "width": sum(each.width for each in sets),
            "widths": tuple(width for each in sets for width in each.widths),
            "new": sum(each.new for each in sets),
            "reused": sum(each.reused for each in sets),
            "seconds": sum(each.seconds for each in sets),
        }
    )


def widths_of(features: FeatureSet) -> tuple[int, ...]:
    """What the features of an image are put together from: the layers of the first backbone, then those of the next."""
    return features.widths or (features.width,)


def counted_alike(features: FeatureSet) -> tuple[int, ...]:
    """Of these, what counts alike, however wide it is: each where there are several backbones. The layers of one are
    of one scale, and count by their widths."""
    return widths_of(features) if features.beside else (features.width,)


def backbones_of(features: FeatureSet) -> list[FeatureSet]:
    """What each backbone sees by itself, in the order in which it stands in the whole."""
    others = features.beside
    if not others:
        return [features]
    width = features.width - sum(each.width for each in others)
    own = features.widths[: len(features.layers)]
    return [features.model_copy(update={"beside": (), "width": width, "widths": own}), *others]


class JoinedStore:
    """What is read of a `FeatureSet`: a store for each backbone, whose features follow each other in a row.

    Args:
        variant: number of the augmented view that is read; 0 is the image as it is.
    """

    def __init__(self, features: FeatureSet, variant: int = 0) -> None:
        self.width = features.width
        sets = backbones_of(features)
        self._stores = [FeatureStore(each.variants[variant - 1] if variant else each.store) for each in sets]
        for store in self._stores:
            note_used(store.folder)
        self._places = list(pairwise(accumulate((each.width for each in sets), initial=0)))

    def missing(self, keys: Hashes) -> np.ndarray:
        """Which images lack the features of any backbone, bool ``[N]``.

        Raises:
            StorageError: a file is damaged.
        """
        wanted = keys_of(keys)
        return np.any([store.missing(wanted) for store in self._stores], axis=0)

    def read(self, keys: Hashes, out: np.ndarray | None = None) -> np.ndarray:
        """Features float32 ``[N, width]`` of images in the given order.

        Args:
            out: where to put them, if not into a new array.

        Raises:
            KeyError: the features of an image are not here.
            StorageError: a file is damaged.
        """
        wanted = keys_of(keys)
        out = np.empty((len(wanted), self.width), np.float32) if out is None else out
        for store, (begin, end) in zip(self._stores, self._places, strict=True):
            store.read(wanted, out=out[:, begin:end])
        return out
