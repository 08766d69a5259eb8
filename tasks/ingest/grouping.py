"""Groups of images to which the source gives none: by what their files are called, or by how they look."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tasks.ingest.config import ChecksConfig
from tasks.ingest.journal import USED, Journal
from tasks.ingest.naming import one_group
from tasks.ingest.relations import apply, near_pairs
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


def join_spellings(journal: Journal, checks: ChecksConfig) -> None:
    """Groups that are one by `one_group` get the name that most of their images have: in two splits, they would put the
    same patient into both.

    Raises:
        DataError: there are such, and the policy is ``fail``.
    """
    journal.sql.create_function("one_group", 1, one_group, deterministic=True)
    counted = """SELECT "group" AS name, one_group("group") AS one, COUNT(*) AS images FROM rows
        WHERE "group" IS NOT NULL GROUP BY 1"""
    journal.sql.execute(
        f"""CREATE TEMP TABLE spelt AS SELECT name, kept FROM (
            SELECT name, FIRST_VALUE(name) OVER (PARTITION BY one ORDER BY images DESC, name) AS kept FROM ({counted})
        ) WHERE name <> kept"""
    )
    found = f"""SELECT id, 'its group ' || name || ' is taken for ' || kept AS reason
        FROM rows JOIN temp.spelt ON name = "group" WHERE {USED}"""
    apply(journal, "respelt_group", found, checks.respelt_group)
    journal.sql.execute(
        """UPDATE rows SET "group" = spelt.kept FROM temp.spelt AS spelt WHERE spelt.name = rows."group" """
    )
    journal.sql.execute("DROP TABLE temp.spelt")
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
