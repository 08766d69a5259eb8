"""What classes there are, what is odd about them, and whether they can be learned."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

from tasks.errors import DataError
from tasks.ingest.config import ChecksConfig
from tasks.ingest.journal import Journal
from tasks.ingest.kinds import CLASSES, KINDS
from tasks.ingest.naming import look_alike
from tasks.ingest.splits import LABELLED
from tasks.records import Split
from tasks.wording import shorten

ClassCounts = dict[str, dict[Split, int]]
"""Images of each class in each split, classes in their order."""


def count_classes(journal: Journal, multi_label: bool) -> ClassCounts:
    """How many images each class has in each split; an image of several labels counts for each."""
    one, table = ("each.value", "rows, json_each(rows.label) AS each") if multi_label else ("rows.label", "rows")
    found = journal.sql.execute(
        f"SELECT {one}, split, COUNT(*) FROM {table} WHERE {LABELLED} GROUP BY 1, 2 ORDER BY 1, 2"
    )
    counts: ClassCounts = {}
    for name, split, count in found:
        counts.setdefault(name, {})[split] = count
    return counts


def note_classes(journal: Journal, checks: ChecksConfig, held_out: Iterable[Split], multi_label: bool) -> None:
    """Note classes without images, or without any in a split that counts, and names that look alike.

    Raises:
        DataError: a kind whose policy is ``fail`` was found.
    """
    counts = count_classes(journal, multi_label)
    empty = sorted(_named(journal, multi_label) - counts.keys())
    found = {
        "empty_class": [(name, "no image of it can be used") for name in empty],
        "absent_class": list(_absent(counts, list(held_out))),
        "similar_classes": list(_similar([*counts, *empty], counts)),
    }
    for kind, remarks in found.items():
        if remarks and getattr(checks, kind) == "fail":
            told = shorten(f"{name} ({reason})" for name, reason in remarks)
            raise DataError(f"{len(remarks):,} {CLASSES[kind]}: {told}. ingest.checks.{kind} is fail; warn goes on")
        journal.sql.executemany("INSERT INTO remarks VALUES (?, ?, ?)", [(kind, *remark) for remark in remarks])
    journal.sql.commit()


def _named(journal: Journal, multi_label: bool) -> set[str]:
    """Classes that the source names: by folders, or by images that are kept out."""
    one, table = ("each.value", "rows, json_each(rows.label) AS each") if multi_label else ("rows.label", "rows")
    found = journal.sql.execute(f"SELECT {one} FROM {table} WHERE rows.label IS NOT NULL UNION SELECT label FROM named")
    return {name for (name,) in found}


def _absent(counts: ClassCounts, held_out: list[Split]) -> Iterator[tuple[str, str]]:
    for name, by_split in counts.items():
        if missing := [split for split in held_out if not by_split.get(split)]:
            yield name, f"no image in {' and '.join(missing)}"


def _similar(names: list[str], counts: ClassCounts) -> Iterator[tuple[str, str]]:
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(look_alike(name), []).append(name)
    for group in alike.values():
        if len(group) > 1:
            told = [f"{readable(name)} ({sum(counts.get(name, {}).values()):,})" for name in sorted(group)]
            yield ", ".join(readable(name) for name in sorted(group)), f"may be one class: {', '.join(told)}"


def readable(name: str) -> str:
    """A name so that one sees how it differs from one that looks the same: spaces at its ends, Unicode's forms."""
    return repr(name) if unicodedata.is_normalized("NFC", name) else ascii(name)


def check_learnable(journal: Journal, needed: tuple[Split, ...], multi_label: bool) -> tuple[str, ...]:
    """Class names in order, once it is clear that each can be learned.

    Raises:
        DataError: fewer than two classes, a class without a training image, or a split without images.
    """
    counts = count_classes(journal, multi_label)
    classes = tuple(sorted(counts))
    if len(classes) < (1 if multi_label else 2):
        raise DataError(
            (f"only one class was found ({', '.join(classes)}): a classifier needs at least two"
             if classes else "no image has a label, and without labels there is nothing to learn")
            + _because(journal)
        )  # fmt: skip
    splits = journal.counts(f"SELECT split, COUNT(*) FROM rows WHERE {LABELLED} GROUP BY split")
    for split in needed:
        if not splits.get(split):
            told = ", ".join(f"{count:,} {name}" for name, count in splits.items())
            raise DataError(
                f"no image falls into the split {split!r} (there are {told}): give more images, raise ingest.split.val "
                "or ingest.split.test, or set ingest.split.by to stratified, which puts every class of three images "
                f"or more into every split{_because(journal)}"
            )
    if missing := [name for name in classes if not counts[name].get("train")]:
        raise DataError(
            f"no training image for {shorten(missing)}: give more images of it, remove the class, or set "
            f"ingest.split.by to stratified, which learns from every class{_because(journal)}"
        )
    return classes


def _because(journal: Journal) -> str:
    told = what_is_kept_out(journal, "kind <> 'hidden'")
    return f". Kept out: {told}" if told else ""


def what_is_kept_out(journal: Journal, out: str = "kind IS NOT NULL") -> str:
    """What the checks kept out, most first, in a line; nothing where that is nothing.

    Args:
        out: SQL condition of the rows that are told of.
    """
    found = journal.counts(f"SELECT kind, COUNT(*) FROM rows WHERE {out} GROUP BY kind ORDER BY 2 DESC, 1")
    if not found:
        return ""
    counts = shorten((f"{count:,} {KINDS[kind]}" for kind, count in found.items()), 4)
    path, reason = journal.sql.execute(f"SELECT path, reason FROM rows WHERE {out} ORDER BY id LIMIT 1").fetchone()
    return f"{counts}; the first: {path} ({reason})"
