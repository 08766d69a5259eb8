"""Which images are learned from, which choices are made on, and which are held out."""

from __future__ import annotations

import hashlib
from typing import cast

from tasks.errors import ConfigurationError
from tasks.ingest.config import SplitConfig
from tasks.ingest.journal import USED, Journal
from tasks.ingest.told import LABELLED, TOLD
from tasks.records import Split
from tasks.target import Kind

TENTHS = 10
"""Parts of equal size that numbers are spread by, and images of a part at least."""

OPEN = f"{TOLD} AND split IS NULL"
"""SQL condition of the images that a split is to be found for; the pool has one."""

RELATED = (
    "COALESCE(label, further) IS NOT NULL AND (rows.kind IS NULL OR rows.kind IN ('duplicate', 'conflicting_label'))"
)
"""SQL condition of the rows that tell which groups share an image, also where the image itself is kept out."""


def keep_given(journal: Journal, config: SplitConfig) -> bool:
    """Whether the splits are the source's own. An image without one beside others that have one is kept out then: it
    cannot be placed by guessing. Where they are not, or there is no other than train, they are forgotten, to be cut.

    Raises:
        ConfigurationError: splits or groups are asked for that the source does not give.
    """
    found = set(journal.counts(f"SELECT split, COUNT(*) FROM rows WHERE {LABELLED} GROUP BY split")) - {None, "pool"}
    if config.by == "given" and not found:
        raise ConfigurationError("ingest.split.by is given, but the source gives no splits")
    if config.by == "group" and not journal.one(f'SELECT COUNT(*) FROM rows WHERE {USED} AND "group" IS NOT NULL'):
        raise ConfigurationError("ingest.split.by is group, but the source gives no groups")
    as_given = config.folds is None and not config.target and config.by in ("auto", "given")
    given = as_given and bool(found - {"train"})
    if as_given and found:
        _keep_out_unsplit(journal, within_domains=not given)
    if not given:
        journal.sql.execute("UPDATE rows SET split = NULL WHERE split <> 'pool'")
    journal.sql.commit()
    return given


def _keep_out_unsplit(journal: Journal, within_domains: bool) -> None:
    beside = f"SELECT DISTINCT COALESCE(domain, '') FROM rows WHERE {TOLD} AND split IS NOT NULL AND split <> 'pool'"
    where = f"AND COALESCE(domain, '') IN ({beside})" if within_domains else ""
    journal.sql.execute(
        f"""UPDATE rows SET kind = 'no_split', reason = 'has no split; other images of the source have one'
        WHERE {TOLD} AND split IS NULL {where}"""
    )


def assign_splits(journal: Journal, config: SplitConfig, given: bool, kind: Kind = "class") -> tuple[Split, Split]:
    """Give every labelled image a split, keeping those that the source gave.

    Images that further tasks have labels of, but not the leading one, are placed as others are: those that would be
    learned from are ``partial``, those that would be held out go to the pool.

    A source with train and val only keeps val as the held-out figure, and ``tune``, a part of train by content, is
    what choices are made on; one with train and test only gets a val out of train.

    Args:
        kind: of the leading task.

    Returns:
        The split to make choices on, and the split to report on.
    """
    choose, report = cast(tuple[Split, Split], ("val", "test"))
    sql = journal.sql
    sql.create_function("position", 1, position, deterministic=True)
    if given:
        found = set(journal.counts(f"SELECT split, COUNT(*) FROM rows WHERE {LABELLED} GROUP BY split"))
        share = None
        if "test" not in found:
            choose, report = "tune", "val"
            share = None if "tune" in found else "tune"  # as a version has it that was made so
        elif "val" not in found:
            share = "val"
        if share:
            _place(journal, _by(journal, config), f"{TOLD} AND split = 'train'", kind)
            sql.execute(
                """UPDATE rows SET split = ? FROM temp.placed AS placed WHERE rows.id = placed.id AND position < ?""",
                (share, config.val),
            )
            sql.execute("DROP TABLE temp.placed")
    else:
        if config.target:
            _hold_out_domains(journal, config, kind)
        _cut(journal, config, kind)
    if config.shots is not None:
        _draw_shots(journal, config.shots, config.seed)
    sql.execute(
        f"""UPDATE rows SET split = CASE WHEN split IN ('train', 'tune', 'partial') THEN 'partial' ELSE 'pool' END
        WHERE {TOLD} AND label IS NULL"""
    )
    sql.commit()
    return choose, report


def _by(journal: Journal, config: SplitConfig) -> str:
    if config.by in ("hash", "stratified", "group"):
        return config.by
    return "group" if journal.one(f'SELECT COUNT(*) FROM rows WHERE {TOLD} AND "group" IS NOT NULL') else "hash"


def _hold_out_domains(journal: Journal, config: SplitConfig, kind: Kind) -> None:
    """Make the images of the target domains test images and, without their labels, some to adapt to.

    Raises:
        ConfigurationError: there is no such domain, or no other.
    """
    sql = journal.sql
    domains = set(journal.counts(f"SELECT domain, COUNT(*) FROM rows WHERE {LABELLED} GROUP BY domain")) - {None}
    told = f"the domains are {', '.join(sorted(domains))}" if domains else "the source gives no domains"
    if missing := set(config.target) - domains:
        raise ConfigurationError(f"ingest.split.target names {', '.join(sorted(missing))}, but {told}")
    if not journal.one(f"SELECT COUNT(*) FROM rows WHERE {LABELLED} AND {_is_source(config)}", *config.target):
        raise ConfigurationError("ingest.split.target names all domains, so that none is left to learn from")
    sql.execute(f"UPDATE rows SET split = 'test' WHERE {TOLD} AND NOT {_is_source(config)}", config.target)
    _place(journal, _by(journal, config), f"{TOLD} AND split = 'test'", kind)
    sql.execute(
        "UPDATE rows SET split = 'pool' FROM temp.placed AS placed WHERE rows.id = placed.id AND position < ?",
        (config.unlabelled,),
    )
    sql.execute("DROP TABLE temp.placed")


def _is_source(config: SplitConfig) -> str:
    """SQL condition of the images of other domains than the targets, which are its parameters."""
    return f"COALESCE(domain, '') NOT IN ({', '.join('?' * len(config.target))})"


def _cut(journal: Journal, config: SplitConfig, kind: Kind) -> None:
    test = 0.0 if config.target or config.folds else config.test
    _place(journal, _by(journal, config), OPEN, kind, test)
    if config.folds is None:
        parts = "CASE WHEN position < :test THEN 'test' WHEN position < :test + :val THEN 'val' ELSE 'train' END"
    else:
        fold = "CAST(position * :folds AS INTEGER)"
        parts = f"CASE {fold} WHEN :fold THEN 'test' WHEN (:fold + 1) % :folds THEN 'val' ELSE 'train' END"
    journal.sql.execute(
        f"""UPDATE rows SET split = {parts} FROM temp.placed AS placed WHERE rows.id = placed.id""",
        {"test": test, "val": config.val, "folds": config.folds, "fold": config.fold},
    )
    journal.sql.execute("DROP TABLE temp.placed")


def _place(journal: Journal, by: str, which: str, kind: Kind, test: float = 0.0) -> None:
    """Fill ``temp.placed`` with the place in [0, 1) of each image of a condition: an order in which splits are cut.

    Args:
        kind: of the leading task; of numbers, ``stratified`` takes tenths of the images, by their number, for classes.
        test: share of the test split, which lies first. Of a class of three images or more, ``stratified`` puts the
            first into it and the second no further than right behind it, so that small classes are in every split. Of
            a class so small that the first would not have been there, the others close up, so that val has its share.
    """
    sql = journal.sql
    sql.execute("CREATE TEMP TABLE placed (id INTEGER PRIMARY KEY, position REAL)")
    if by == "stratified":
        _stratify(journal, which, kind)
        sql.execute(
            """INSERT INTO temp.placed SELECT id, MIN(position) OVER (PARTITION BY hash) FROM (
                SELECT id, hash, CASE WHEN :test = 0 OR total < 3 THEN (place - 0.5) / total
                    WHEN place < 3 THEN MIN((place - 1) * :test, (place - 0.5) / total)
                    WHEN 0.5 / total < :test THEN (place - 0.5) / total
                    ELSE :test + (place - 1.5) / total END AS position
                FROM (
                    SELECT *, DENSE_RANK() OVER (PARTITION BY stratum ORDER BY hash) AS place FROM temp.strata
                ) JOIN (
                    SELECT stratum, COUNT(DISTINCT hash) AS total FROM temp.strata GROUP BY stratum
                ) USING (stratum)
            )""",
            {"test": test},
        )
        sql.execute("DROP TABLE temp.strata")
    elif by == "group":
        _join_groups(journal)
        sql.execute(
            f"""INSERT INTO temp.placed SELECT id, position(COALESCE(joined, 'group ' || known, hash)) FROM (
                SELECT *, COALESCE("group", MIN("group") OVER (PARTITION BY hash)) AS known FROM rows WHERE {RELATED}
            ) AS rows LEFT JOIN temp.joined ON name = known WHERE {which}"""
        )
        sql.execute("DROP TABLE temp.joined")
    else:
        sql.execute(f"INSERT INTO temp.placed SELECT id, position(hash) FROM rows WHERE {which}")


def _stratify(journal: Journal, which: str, kind: Kind) -> None:
    """Fill ``temp.strata`` with what each image of a condition is to be spread by: its class, of numbers the tenth that
    its own stands in. Images without either are spread among themselves."""
    stratum = "COALESCE('is ' || label, 'none')"
    if kind == "number":
        value = f"SELECT hash, MIN(CAST(label AS REAL)) AS value FROM rows WHERE {which} AND label IS NOT NULL"
        images = journal.one(f"SELECT COUNT(*) FROM ({value} GROUP BY hash)")
        parts = max(1, min(TENTHS, images // TENTHS))  # of few images a tenth would be too few to be spread
        tenths = f"SELECT hash, NTILE({parts}) OVER (ORDER BY value, hash) AS tenth FROM ({value} GROUP BY hash)"
        stratum = f"COALESCE((SELECT tenth FROM ({tenths}) AS cut WHERE cut.hash = rows.hash), 0)"
    journal.sql.execute(f"CREATE TEMP TABLE strata AS SELECT id, hash, {stratum} AS stratum FROM rows WHERE {which}")


def position(text: str) -> float:
    """Where a content or group stands in [0, 1): even over many, and the same whatever else there is.

    An MD5 of a file is its own position, so that datasets keep the splits that its leading digits gave them.
    """
    is_hash = len(text) == 32 and all(digit in "0123456789abcdef" for digit in text)
    digits = text if is_hash else hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    return int(digits[:8], 16) / 16**8


def _join_groups(journal: Journal) -> None:
    """Groups that share an image are one group: else its copies would stand in two splits."""
    sql = journal.sql
    shared = sql.execute(
        f"""SELECT hash, "group" FROM rows WHERE {RELATED} AND "group" IS NOT NULL AND hash IN (
            SELECT hash FROM rows WHERE {RELATED} GROUP BY hash HAVING COUNT(DISTINCT "group") > 1
        ) GROUP BY hash, "group" ORDER BY hash, "group" """
    )
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := parent.setdefault(name, name)) != name:
            name = above
        return name

    first: dict[str, str] = {}
    for hash, name in shared:
        one, other = sorted((root(first.setdefault(hash, name)), root(name)))
        parent[other] = one
    sql.execute("CREATE TEMP TABLE joined (name TEXT PRIMARY KEY, joined TEXT)")
    sql.executemany("INSERT INTO temp.joined VALUES (?, ?)", [(name, f"group {root(name)}") for name in parent])


def _draw_shots(journal: Journal, shots: int, seed: int) -> None:
    """Keep so many training images of each class, drawn by content and seed; the others go to the pool."""
    sql = journal.sql
    sql.create_function("drawn", 1, lambda hash: position(f"shots {seed} {hash}"), deterministic=True)
    sql.execute(
        f"""UPDATE rows SET split = 'pool' WHERE id IN (SELECT id FROM (
            SELECT id, DENSE_RANK() OVER (PARTITION BY label ORDER BY drawn(hash), hash) AS place FROM rows
            WHERE {LABELLED} AND split = 'train'
        ) WHERE place > ?)""",
        (shots,),
    )
