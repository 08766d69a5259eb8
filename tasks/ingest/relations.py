"""What images are to each other, and to the labels: copies, contradictions, look-alikes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from tasks.errors import DataError
from tasks.ingest.config import ChecksConfig
from tasks.ingest.journal import USED, Journal
from tasks.ingest.kinds import EMPTY_FOLDER, KINDS, ODD, UNUSABLE
from tasks.ingest.layout import Layout
from tasks.ingest.manifest import MANIFEST, TABLE
from tasks.ingest.naming import is_aside, is_spare
from tasks.ingest.reading import find_layout
from tasks.ingest.storage import is_hidden
from tasks.ingest.told import LABELLED, TOLD, cell_sql
from tasks.target import Target

HELD_OUT_MOST = """CASE split WHEN 'test' THEN 0 WHEN 'val' THEN 1 WHEN 'tune' THEN 2 WHEN 'train' THEN 3
    WHEN 'pool' THEN 5 ELSE 4 END"""
"""SQL order in which one of several copies is kept."""

MAX_PAIRS = 100_000
"""Look-alike pairs that are listed at most; a dataset with more has another problem."""

COPIES = f"""
    SELECT id, 'copy of ' || kept AS reason, split, kept_split FROM (
        SELECT id, split, ROW_NUMBER() OVER best AS place, FIRST_VALUE(path) OVER best AS kept,
               FIRST_VALUE(split) OVER best AS kept_split
        FROM rows
        WHERE {USED} AND hash IN (SELECT hash FROM rows WHERE {USED} GROUP BY hash HAVING COUNT(*) > 1)
        WINDOW best AS (PARTITION BY hash ORDER BY {HELD_OUT_MOST}, label IS NULL, further IS NULL, path, id)
    ) WHERE place > 1
"""

SUFFIXES = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif"), "MPO": ("jpg", "jpeg", "mpo"), "TIFF": ("tif", "tiff"),
    "PPM": ("ppm", "pgm", "pbm", "pnm", "pfm", "pam"), "JPEG2000": ("jp2", "j2k", "jpc", "jpf", "jpx", "j2c"),
    "PNG": ("png", "apng"), "BMP": ("bmp", "dib"), "DIB": ("bmp", "dib"), "SGI": ("sgi", "rgb", "rgba", "bw"),
    "TGA": ("tga", "icb", "vda", "vst"), "EPS": ("eps", "ps"), "AVIF": ("avif", "avifs"),
    "HEIF": ("heic", "heif", "hif"),
}  # fmt: skip
"""What files of a format are called, where that is not the format's own name."""

SUFFIX = "lower(replace(path, rtrim(path, replace(path, '.', '')), ''))"
"""SQL for what follows the last dot of a path."""

_USUAL = [f"(format = '{kind}' AND {SUFFIX} IN {known})" for kind, known in SUFFIXES.items()]
MISNAMED = f"NOT ({SUFFIX} = lower(format) OR {' OR '.join(_USUAL)})"
"""SQL for a name that promises another format than the file has."""


FOLDER = "rtrim(path, replace(path, '/', ''))"
"""SQL for the folder of a path, with a slash at its end."""


def place_by_folders(journal: Journal, multi_label: bool = False) -> None:
    """Give the rows of trees the label, split, domain and group that their folders say; see `Layout`.

    Args:
        multi_label: whether the dataset's labels are lists, as when a folder is joined to a table of several labels.

    Raises:
        ConfigurationError: a layout is not understood, or a tree can be read in several ways.
    """
    sql = journal.sql
    trees = sql.execute("SELECT DISTINCT layout, domain FROM rows WHERE layout IS NOT NULL").fetchall()
    for text, domain in trees:
        # Where images of other domains lie below folders of their names, those mean nothing here.
        above = f"{domain}/" if domain else ""
        tree = "layout = ? AND domain IS ?"
        folders = sql.execute(
            f"SELECT {FOLDER}, COUNT(*) FROM rows WHERE {tree} AND {USED} GROUP BY 1", (text, domain)
        ).fetchall()
        layout = find_layout(
            text, {name.removeprefix(above).rstrip("/"): count for name, count in folders},
            f"ingest.source.domains.{domain}.layout" if domain else "ingest.source.layout",
        )  # fmt: skip
        unused = sql.execute(
            f"SELECT DISTINCT {FOLDER} FROM rows WHERE {tree} AND kind <> 'unsafe_path'", (text, domain)
        ).fetchall()
        named = {_class_of(folder.removeprefix(above), layout) for (folder,) in unused}
        sql.executemany("INSERT OR IGNORE INTO named VALUES (?)", [(name,) for name in named if name])
        found = sql.execute(f"SELECT id, path FROM rows WHERE {tree} AND {USED} ORDER BY id", (text, domain))
        while block := found.fetchmany(10_000):
            values = []
            for id, path in block:
                placed = layout.place(path.removeprefix(above))
                kind, reason = layout.problem(placed) or (None, None)
                label = json.dumps([placed.label]) if multi_label and placed.label is not None else placed.label
                values.append(
                    (above + placed.path, label, placed.split, placed.domain or domain, placed.group, kind,
                     reason, id)
                )  # fmt: skip
            sql.executemany(
                'UPDATE rows SET path=?, label=?, split=?, domain=?, "group"=COALESCE(?, "group"), '
                "kind=?, reason=? WHERE id=?",
                values,
            )
    sql.execute("DELETE FROM rows WHERE kind = ?", (EMPTY_FOLDER.kind,))
    sql.execute(f"UPDATE rows SET split = 'pool' WHERE COALESCE(label, further) IS NULL AND {USED}")
    sql.commit()


def _class_of(folder: str, layout: Layout) -> str | None:
    """Which class a folder without images would be, its path ending in a slash."""
    name, above = layout.place(f"{folder}x").label, folder.split("/")[:-2]
    is_beside = is_hidden(folder) or any(map(is_spare, above)) or (name is not None and is_aside(name))
    return None if is_beside else name


def check_usable(journal: Journal, checks: ChecksConfig) -> None:
    """Stop where unusable items are to stop the run.

    Raises:
        DataError: a kind whose policy is ``fail`` was found.
    """
    for kind in UNUSABLE:
        if getattr(checks, kind) == "fail":
            _fail(journal, kind, "SELECT id, reason FROM rows WHERE kind = ?", kind)


def note_oddities(journal: Journal, checks: ChecksConfig) -> None:
    """Note, or keep out, images whose files are odd: rotated, CMYK, called .png but JPEG..."""
    sql = journal.sql
    # Most images are not odd: one reading of the large tables, not one for each kind.
    sql.execute(
        f"""CREATE TEMP TABLE oddities AS SELECT id, path, format, mode, odd, {MISNAMED} AS misnamed
        FROM rows JOIN contents USING (hash) WHERE {USED} AND (odd <> ',,' OR {MISNAMED})"""
    )
    for kind in ODD:
        condition = "misnamed" if kind == "wrong_extension" else f"odd LIKE '%,{kind},%'"
        said = "'called ' || path || ', but ' || format" if kind == "wrong_extension" else "mode || ' ' || format"
        found = f"""SELECT id, {said} AS reason FROM temp.oddities JOIN rows USING (id, path)
            WHERE {USED} AND {condition}"""
        apply(journal, kind, found, getattr(checks, kind))
    sql.execute("DROP TABLE temp.oddities")


def keep_paths_apart(journal: Journal, checks: ChecksConfig) -> None:
    """Two rows of one path cannot both be in a folder, so that none of their policies is to warn; of rows that say the
    same, the one held out most is kept. Nor can a file be called as a folder.

    Raises:
        DataError: a kind whose policy is ``fail`` was found.
    """
    repeated = "GROUP BY path HAVING COUNT(*) > 1"
    journal.sql.execute(f"CREATE TEMP TABLE twice AS SELECT path FROM rows WHERE {USED} {repeated}")
    listed = f"""
        SELECT id, split, ROW_NUMBER() OVER best AS place, FIRST_VALUE(split) OVER best AS kept_split
        FROM rows WHERE {USED} AND path IN temp.twice
        WINDOW best AS (PARTITION BY path, hash, label, further ORDER BY {HELD_OUT_MOST}, id)
    """
    still = f"SELECT path FROM rows WHERE {USED} AND path IN temp.twice {repeated}"
    contradicting = f"rows WHERE {USED} AND path IN ({still})"
    for kind, reason, found in (
        ("straddling", "listed in another split too", f"({listed}) WHERE split IS NOT kept_split"),
        ("duplicate", "listed twice", f"({listed}) WHERE place > 1"),
        ("conflicting_label", "its path stands for different images or labels", contradicting),
    ):
        action = "fail" if getattr(checks, kind) == "fail" else "quarantine"
        apply(journal, kind, f"SELECT id, '{reason}' AS reason FROM {found}", action)
    journal.sql.execute("DROP TABLE temp.twice")
    folders: set[str] = set()
    for (name,) in journal.sql.execute(f"SELECT DISTINCT {FOLDER} FROM rows WHERE {USED}"):
        while (name := name.rpartition("/")[0]) and name not in folders:
            folders.add(name)
    journal.sql.execute("CREATE TEMP TABLE folders (name TEXT PRIMARY KEY) WITHOUT ROWID")
    journal.sql.executemany("INSERT INTO temp.folders VALUES (?)", ((name,) for name in folders))
    journal.sql.execute(
        f"""UPDATE rows SET kind = 'unsafe_path', reason = 'its name is that of a folder, or of the manifest'
        WHERE {USED} AND (path IN (SELECT name FROM temp.folders) OR path IN (?1, ?2)
        OR path LIKE ?1 || '/%' OR path LIKE ?2 || '/%')""",
        (MANIFEST, TABLE),
    )
    journal.sql.execute("DROP TABLE temp.folders")
    journal.sql.commit()


def note_ungrouped(journal: Journal, checks: ChecksConfig) -> None:
    """Find images without a group beside others that have one: only the content of such an image tells its split."""
    grouped = f"SELECT COALESCE(domain, '') FROM rows WHERE {USED} AND \"group\" IS NOT NULL"
    found = f"""SELECT id, 'has no group; others of the source have one' AS reason FROM rows
        WHERE {TOLD} AND "group" IS NULL AND COALESCE(domain, '') IN ({grouped})"""
    apply(journal, "ungrouped", found, checks.ungrouped)


def note_parted_groups(journal: Journal, checks: ChecksConfig) -> None:
    """Find images whose group is in several splits; the pool, from which nothing is held out, does not count."""
    placed = f"{USED} AND \"group\" IS NOT NULL AND split <> 'pool'"
    part = "REPLACE(split, 'partial', 'train')"
    parted = f"""SELECT name, GROUP_CONCAT(part, ', ') AS parts
        FROM (SELECT DISTINCT "group" AS name, {part} AS part FROM rows WHERE {placed} ORDER BY 1, 2)
        GROUP BY name HAVING COUNT(*) > 1"""
    found = f"""SELECT id, 'its group is in ' || parts AS reason FROM rows JOIN ({parted}) ON name = "group"
        WHERE {placed}"""
    apply(journal, "parted_group", found, checks.parted_group)


def settle_copies(journal: Journal, checks: ChecksConfig, further: Sequence[Target] = ()) -> None:
    """Find copies under different labels of any task, in different given splits, and in the same one. What only some of
    the copies say, that is kept, too."""
    contradictions = f"""
        SELECT id, 'stands under ' || labels AS reason FROM rows JOIN (
            SELECT hash, GROUP_CONCAT(DISTINCT label) AS labels FROM rows WHERE {USED} AND label IS NOT NULL
            GROUP BY hash HAVING COUNT(DISTINCT label) > 1
        ) USING (hash) WHERE {LABELLED}
    """
    apply(journal, "conflicting_label", contradictions, checks.conflicting_label)
    for target in further:
        cell = cell_sql(target)
        differing = f"""SELECT hash, GROUP_CONCAT(DISTINCT {cell}) AS labels FROM rows WHERE {TOLD} GROUP BY hash
            HAVING COUNT(DISTINCT {cell}) > 1"""
        found = f"""SELECT id, 'stands under {target.name} ' || labels AS reason FROM rows JOIN ({differing})
            USING (hash) WHERE {TOLD} AND {cell} IS NOT NULL"""
        apply(journal, "conflicting_label", found, checks.conflicting_label)
    if further:
        _share_labels(journal)
    where = "COALESCE(' (' || kept_split || ')', '')"  # not known yet where splits are made
    across = f"SELECT id, reason || {where} AS reason FROM ({COPIES}) WHERE split IS NOT kept_split"
    apply(journal, "straddling", across, checks.straddling)
    apply(journal, "duplicate", f"SELECT id, reason FROM ({COPIES})", checks.duplicate)


def _share_labels(journal: Journal) -> None:
    """Give each image what its copies say and it does not, of the tasks by which they do not contradict each other."""
    # Not in SQL, whose JSON functions round numbers to 15 digits.
    again = f"SELECT hash FROM rows WHERE {USED} GROUP BY hash HAVING COUNT(*) > 1"
    rows = journal.sql.execute(
        f"SELECT hash, id, label, further FROM rows WHERE {USED} AND hash IN ({again}) ORDER BY hash, id"
    ).fetchall()
    for _, alike in groupby(rows, key=lambda row: row[0]):
        copies = [(id, label, json.loads(further or "{}")) for _, id, label, further in alike]
        leading = {label for _, label, _ in copies} - {None}
        known: dict[str, list[Any]] = {}
        for name, label in (entry for _, _, further in copies for entry in further.items()):
            known.setdefault(name, []).append(label)
        shared = {name: labels[0] for name, labels in known.items() if all(each == labels[0] for each in labels)}
        label = leading.pop() if len(leading) == 1 else None
        told = [(label, json.dumps(shared | said, sort_keys=True) if shared | said else None, id)
                for id, _, said in copies]  # fmt: skip
        journal.sql.executemany("UPDATE rows SET label = COALESCE(label, ?), further = ? WHERE id = ?", told)
    journal.sql.commit()


def settle_look_alikes(journal: Journal, checks: ChecksConfig) -> None:
    """Find images that look alike by their perceptual hashes, across and within splits."""
    rows = journal.sql.execute(
        f"""SELECT id, dhash FROM rows JOIN contents USING (hash) WHERE rows.kind IS NULL AND dhash IS NOT NULL
        ORDER BY {HELD_OUT_MOST}, path"""
    )
    table = np.fromiter(rows, dtype=[("id", np.int64), ("dhash", np.int64)])
    first, second, bits = near_pairs(table["dhash"].view(np.uint64), checks.near_bits)
    pairs = zip(table["id"][first].tolist(), table["id"][second].tolist(), bits.tolist(), strict=True)
    journal.sql.executemany("INSERT INTO near VALUES (?,?,?)", pairs)
    journal.sql.commit()
    for kind, relation in (("near_straddling", "<>"), ("near_duplicate", "=")):
        found = f"""
            SELECT b.id, 'looks like ' || a.path || ' (' || a.split || ', ' || bits || ' bits differ)' AS reason
            FROM near JOIN rows a ON a.id = first JOIN rows b ON b.id = second
            WHERE a.kind IS NULL AND b.kind IS NULL AND a.hash <> b.hash
            AND REPLACE(a.split, 'partial', 'train') {relation} REPLACE(b.split, 'partial', 'train')
            GROUP BY b.id
        """
        apply(journal, kind, found, getattr(checks, kind))


def near_pairs(hashes: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of 64-bit hashes that differ in at most ``bits`` bits, up to `MAX_PAIRS`.

    Cut into ``bits + 1`` bands, two such hashes are equal in at least one (the pigeonhole principle; multi-index
    hashing, Norouzi et al. 2012), so only hashes that share a band are compared.

    Args:
        hashes: uint64 ``[N]``.

    Returns:
        Positions ``[P]`` of the first and of the second of each pair, the first below the second, and the number of
        differing bits ``[P]``.
    """
    bands = bits + 1
    width = 64 // bands
    found: set[tuple[int, int, int]] = set()
    for band in range(bands):
        mask = np.uint64((1 << (64 - band * width if band == bands - 1 else width)) - 1)
        keys = (hashes >> np.uint64(band * width)) & mask
        order = np.argsort(keys, kind="stable")
        keys, start = keys[order], np.arange(len(order))
        for distance in range(1, len(order)):
            start = start[start + distance < len(order)]
            start = start[keys[start] == keys[start + distance]]
            if not len(start) or len(found) >= MAX_PAIRS:
                break
            one, other = order[start], order[start + distance]
            differing = np.bitwise_count(hashes[one] ^ hashes[other])
            near = differing <= bits
            one, other, differing = one[near], other[near], differing[near]
            pairs = (np.minimum(one, other), np.maximum(one, other), differing)
            found.update(zip(*(column.tolist() for column in pairs), strict=True))
    table = np.array(sorted(found)[:MAX_PAIRS], dtype=np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def apply(journal: Journal, kind: str, found: str, action: str) -> None:
    """Do what the policy says about the rows that a query (id, reason) finds.

    Raises:
        DataError: the policy is ``fail`` and there are any.
    """
    if action == "fail":
        _fail(journal, kind, found)
    elif action == "warn":
        journal.sql.execute(f"INSERT INTO noted SELECT ?, * FROM ({found})", (kind,))
    else:
        journal.sql.execute(f"CREATE TEMP TABLE picked AS SELECT * FROM ({found})")
        journal.sql.execute("CREATE UNIQUE INDEX temp.picked_id ON picked (id)")
        journal.sql.execute(
            """UPDATE rows SET kind = ?, reason = picked.reason FROM temp.picked AS picked
            WHERE rows.id = picked.id""",
            (kind,),
        )
        journal.sql.execute("DROP TABLE temp.picked")
    journal.sql.commit()


def _fail(journal: Journal, kind: str, found: str, *parameters: Any) -> None:
    count = journal.one(f"SELECT COUNT(*) FROM ({found})", *parameters)
    if not count:
        return
    query = f"SELECT path, found.reason FROM ({found}) AS found JOIN rows USING (id) ORDER BY path LIMIT 1"
    path, reason = journal.sql.execute(query, parameters).fetchone()
    raise DataError(
        f"{count:,} {KINDS[kind]}, the first: {path} ({reason}). ingest.checks.{kind} is fail; "
        "quarantine keeps them out"
    )
