"""Which images belong together, such as the frames of one film or the pictures of one patient: their answers are
alike, so that ten of them tell less than ten images of ten patients."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def group_numbers(rows: pd.DataFrame) -> np.ndarray | None:
    """The group of each row of a manifest: int64 ``[N]``, from 0; None where no row has one.

    Rows of one content are in one group, and so are the groups that share a content: an image may stand in a dataset
    twice where its copies are taken in. An image without a group is a group of its own.
    """
    if not rows["group"].notna().any():
        return None
    contents, hashes = pd.factorize(rows["hash"])
    groups, _ = pd.factorize(rows["group"])
    named = groups >= 0
    ends = (contents[named], len(hashes) + groups[named])
    size = len(hashes) + int(groups.max()) + 1
    _, parts = connected_components(coo_array((np.ones(len(ends[0])), ends), shape=(size, size)), directed=False)
    return np.unique(parts[contents], return_inverse=True)[1].astype(np.int64)


def groups_among(groups: np.ndarray | None, chosen: np.ndarray) -> np.ndarray | None:
    """The groups of some of the images (bool ``[N]``), numbered anew from 0: int64 ``[n]``; None where images come in
    none."""
    return None if groups is None else np.unique(groups[chosen], return_inverse=True)[1]
