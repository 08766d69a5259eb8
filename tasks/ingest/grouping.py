"""Groups of images to which the source gives none: by what their files are called, or by how they look."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tasks.ingest.journal import Journal
from tasks.ingest.relations import near_pairs
from tasks.ingest.stems import stem_of
from tasks.ingest.told import TOLD
from tasks.target import Kind

Grouping = Literal["source", "stem", "near_duplicates"]

UNGROUPED = f"""{TOLD} AND "group" IS NULL"""


def group_images(journal: Journal, by: Grouping, bits: int, kind: Kind = "class") -> None:
    """Give every labelled image without a group one.

    Args:
        kind: of the leading task; of numbers, files are not counted anew for each.
        bits: by which the perceptual hashes of two images may differ that look alike.
    """
    if by == "stem":
        journal.sql.create_function("stem_of", 2, stem_of, deterministic=True)
        label = "NULL" if kind == "number" else "label"
        journal.sql.execute(f"""UPDATE rows SET "group" = stem_of(path, {label}) WHERE {UNGROUPED}""")
    elif by == "near_duplicates":
        _group_look_alikes(journal, bits)
    journal.sql.commit()


def _group_look_alikes(journal: Journal, bits: int) -> None:
    """Chains of images that look alike; each is called after the first of its contents."""
    found = journal.sql.execute(
        f"SELECT DISTINCT hash, dhash FROM rows JOIN contents USING (hash) WHERE {UNGROUPED} ORDER BY hash"
    ).fetchall()
    hashed = np.array([place for place, (_, dhash) in enumerate(found) if dhash is not None], np.int64)
    seen = np.array([dhash for _, dhash in found if dhash is not None], np.int64)
    first, second, _ = near_pairs(seen.view(np.uint64), bits)
    size = len(found)
    links = coo_array((np.ones(len(first)), (hashed[first], hashed[second])), shape=(size, size))
    _, chains = connected_components(links, directed=False)
    names: dict[int, str] = {}
    named = [
        (names.setdefault(int(chain), f"like {hash}"), hash) for chain, (hash, _) in zip(chains, found, strict=True)
    ]
    journal.sql.executemany(f"""UPDATE rows SET "group" = ? WHERE hash = ? AND {UNGROUPED}""", named)
