"""What classes there are, what is odd about them, and whether they can be learned."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import get_args

from tasks.errors import DataError
from tasks.ingest.config import ChecksConfig
from tasks.ingest.journal import USED, Journal
from tasks.ingest.kinds import KINDS, NAMED, TASKS
from tasks.ingest.naming import look_alike, split_called
from tasks.ingest.relations import FOLDER
from tasks.ingest.tables.cells import DECIMAL_COMMA, NUMBER, number_text, plain_number
from tasks.ingest.told import LABELLED, values_of
from tasks.records import Split
from tasks.target import LABEL, Target
from tasks.wording import shorten

ClassCounts = dict[str, dict[Split, int]]
"""Images of each class in each split, classes in their order."""

TRAINING: tuple[Split, ...] = ("train", "tune", "partial")
"""Splits that further tasks may learn from; the leading one's classes have to be in the first."""

UNLABELLED = "no image has a label, and without labels there is nothing to learn"

MANY, FEW = 20, 5
"""Classes from which on they may be values of a quantity, and images of each below which they are."""

COARSE = 2.0**-13
"""Numbers that differ by a smaller share of their size have less than a thousand values in float32, whose mantissa has
23 bits."""


def count_classes(journal: Journal, target: Target) -> ClassCounts:
    """How many images each class of a task has in each split; an image of several labels counts for each. Of a further
    task, what lies in the pool does not count: nothing is learned from it, and nothing is judged by it."""
    value, table, known = values_of(target)
    counted = USED if target.column == LABEL else f"{USED} AND split <> 'pool'"
    found = journal.sql.execute(
        f"SELECT {value}, split, COUNT(*) FROM {table} WHERE {counted} AND {known} GROUP BY 1, 2 ORDER BY 1, 2"
    )
    counts: ClassCounts = {}
    for name, split, count in found:
        counts.setdefault(name, {})[split] = count
    return counts


def note_classes(
    journal: Journal, checks: ChecksConfig, held_out: Sequence[Split], targets: tuple[Target, ...], numbers: bool
) -> None:
    """Note classes without images, or without any in a split that counts, names that look alike, classes that may be
    numbers, and tasks without labels in the split that is reported on.

    Args:
        held_out: the splits to choose on and to report on.
        numbers: whether the source can tell numbers.

    Raises:
        DataError: a kind whose policy is ``fail`` was found.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for target in targets:
        for kind, remarks in _remarks(journal, held_out, target, numbers).items():
            of = "" if target.column == LABEL or kind in TASKS else f"{target.name}: "
            found.setdefault(kind, []).extend((of + about, reason) for about, reason in remarks)
    for kind, remarks in found.items():
        if remarks and getattr(checks, kind) == "fail":
            told = shorten(f"{name} ({reason})" for name, reason in remarks)
            raise DataError(f"{len(remarks):,} {NAMED[kind]}: {told}. ingest.checks.{kind} is fail; warn goes on")
        journal.sql.executemany("INSERT INTO remarks VALUES (?, ?, ?)", [(kind, *remark) for remark in remarks])
    journal.sql.commit()


def _remarks(
    journal: Journal, held_out: Sequence[Split], target: Target, numbers: bool
) -> dict[str, list[tuple[str, str]]]:
    """Of one task, by kind: what it is about, and the reason."""
    if target.column != LABEL and not target.images.get(held_out[-1]):
        return {"untold_task": [(target.name, f"no image in {held_out[-1]} has a label of it")]}
    if target.kind == "number":
        return {}
    counts = count_classes(journal, target)
    empty = sorted(_named(journal, target) - counts.keys())
    return {
        "deeper_folders": list(_deeper(journal, target)),
        "empty_class": [(name, "no image of it can be used") for name in empty],
        "absent_class": list(_absent(counts, list(held_out))),
        "similar_classes": list(_similar([*counts, *empty], counts)),
        "numbers_as_classes": [(target.name, _as_number(target, counts))] if numbers and _are_numbers(counts) else [],
    }


def _deeper(journal: Journal, target: Target) -> Iterator[tuple[str, str]]:
    """Folders below those of classes, where most images lie in several of them."""
    if target.column != LABEL:
        return
    rows = journal.sql.execute(
        f"""SELECT {FOLDER}, label, COUNT(*) FROM rows
        WHERE {LABELLED} AND layout IS NOT NULL AND "group" IS NULL GROUP BY 1, 2"""
    )
    images, deep, found = 0, 0, set()
    for folder, label, count in rows:
        images += count
        below = f"/{folder}".partition(f"/{label}/")[2].partition("/")[0]
        if below and not split_called(below):
            deep += count
            found.add(f"{label}/{below}")
    classes = len(count_classes(journal, target))
    if 2 * deep >= images and len(found) > classes:
        yield (
            f"{len(found):,} folders below {classes:,} classes",
            f"{shorten(sorted(found), 3)} count as their class: where they are what images have in common, such as "
            "patients, write layout: label/group, where they are the classes, */label",
        )


def _named(journal: Journal, target: Target) -> set[str]:
    """Classes that the source names: by folders, or by images that are kept out."""
    value, table, known = values_of(target)
    folders = "UNION SELECT label FROM named" if target.column == LABEL else ""
    found = journal.sql.execute(f"SELECT {value} FROM {table} WHERE {known} {folders}")
    return {name for (name,) in found}


def _are_numbers(counts: ClassCounts) -> bool:
    """Whether classes look like values of a quantity: many, nine in ten numbers, with decimals or few images each."""
    others = _no_numbers(counts)
    numbers = counts.keys() - others
    images = sum(sum(counts[name].values()) for name in numbers)
    return (
        len(numbers) >= max(MANY, 9 * len(others))
        and (images < FEW * len(numbers) or any(not name.lstrip("+-").isdigit() for name in numbers))
    )  # fmt: skip


def _no_numbers(counts: ClassCounts) -> list[str]:
    return [name for name in counts if not (NUMBER.fullmatch(name) or DECIMAL_COMMA.fullmatch(name))]


def _as_number(target: Target, counts: ClassCounts) -> str:
    name, others = "NAME" if target.name == LABEL else target.name, _no_numbers(counts)
    which, advice = "all", "learns one"
    if others:
        which, advice = f"all but {shorten(map(repr, others), 3)}", f"{advice} once those cells are empty"
    return (
        f"{len(counts):,} classes, {which} of them numbers: label: {{{name}: {{column: ..., kind: number}}}} {advice}"
    )


def _absent(counts: ClassCounts, held_out: list[Split]) -> Iterator[tuple[str, str]]:
    for name, by_split in counts.items():
        if missing := [split for split in held_out if not by_split.get(split)]:
            yield name, f"no image in {' and '.join(missing)}"


def _similar(names: list[str], counts: ClassCounts) -> Iterator[tuple[str, str]]:
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(plain_number(look_alike(name)), []).append(name)
    for group in alike.values():
        if len(group) > 1:
            told = [f"{readable(name)} ({sum(counts.get(name, {}).values()):,})" for name in sorted(group)]
            yield ", ".join(readable(name) for name in sorted(group)), f"may be one class: {', '.join(told)}"


def readable(name: str) -> str:
    """A name so that one sees how it differs from one that looks the same: spaces at its ends, Unicode's forms."""
    return repr(name) if unicodedata.is_normalized("NFC", name) else ascii(name)


def check_learnable(
    journal: Journal,
    needed: tuple[Split, ...],
    targets: tuple[Target, ...],
    numbers: bool = False,
    given: bool = False,
) -> tuple[Target, ...]:
    """The tasks with their classes in order and the images that have labels, once it is clear that all can be learned.

    Args:
        needed: the splits to learn from, to choose on and to report on.
        numbers: whether the source can tell numbers.
        given: whether the splits are the source's own.

    Raises:
        DataError: fewer than two classes or values, a class without a training image, or a split without images.
    """
    learnable = []
    for target in targets:
        check = _check_numbers if target.kind == "number" else _check_classes
        classes = check(journal, needed, target, numbers, given)
        known = f"{USED} AND {values_of(target).known}"
        images = journal.counts(f"SELECT split, COUNT(*) FROM rows WHERE {known} GROUP BY split")
        by_split = {split: images[split] for split in get_args(Split) if split in images}
        learnable.append(target.model_copy(update={"classes": classes, "images": by_split}))
    return tuple(learnable)


def _check_classes(
    journal: Journal, needed: tuple[Split, ...], target: Target, numbers: bool, given: bool
) -> tuple[str, ...]:
    counts = count_classes(journal, target)
    classes = tuple(sorted(counts))
    if len(classes) < (1 if target.kind == "labels" else 2):
        raise DataError(
            (f"{_of(target)}only one class was found ({', '.join(classes)}): a classifier needs at least two"
             if classes else f"{_of(target)}{UNLABELLED}")
            + _because(journal)
        )  # fmt: skip
    _check_splits(journal, needed, target, given)
    training = TRAINING if target.column != LABEL else TRAINING[:1]
    if missing := [name for name in classes if not any(counts[name].get(split) for split in training)]:
        if numbers and _are_numbers(counts):
            raise DataError(f"{_of(target)}no training image for {shorten(missing)}; {_as_number(target, counts)}")
        advice = "give more images of it, remove the class, or "
        if target.column != LABEL:
            advice += "leave the cells of this task empty"
        elif given:
            advice = f"give more images of it, or remove the class: {_where(journal, target, missing[0])}"
        elif _has_whole_groups(journal):
            advice = "give images of it from more groups, or remove the class"
        else:
            advice += "set ingest.split.by to stratified, which learns from every class"
        alike = {look_alike(name) for name in missing}
        if told := [reason for _, reason in _similar([name for name in classes if look_alike(name) in alike], counts)]:
            advice = f"{shorten(told)}. Give each class one name, or {advice}"
        raise DataError(f"{_of(target)}no training image for {shorten(missing)}: {advice}{_because(journal)}")
    return classes


def _where(journal: Journal, target: Target, name: str) -> str:
    """In which split the source has a class, by its first image."""
    value, table, _ = values_of(target)
    path, split = journal.sql.execute(
        f"SELECT rows.path, split FROM {table} WHERE {USED} AND {value} = ? ORDER BY 1 LIMIT 1", (name,)
    ).fetchone()
    return f"of {name} the source has {path}, in {split}"


def _check_numbers(
    journal: Journal, needed: tuple[Split, ...], target: Target, _: bool, given: bool
) -> tuple[str, ...]:
    value, table, known = values_of(target)
    if not journal.one(f"SELECT COUNT(*) FROM rows WHERE {USED} AND {known}"):
        raise DataError(
            f"{_of(target)}no image has a number, and without any there is nothing to learn{_because(journal)}"
        )
    _check_splits(journal, needed, target, given)
    splits = ", ".join(f"'{split}'" for split in TRAINING)
    where = f"{USED} AND {known} AND split IN ({splits})"
    least, most = journal.sql.execute(f"SELECT MIN({value}), MAX({value}) FROM {table} WHERE {where}").fetchone()
    if least == most:
        raise DataError(
            f"{_of(target)}the number is {number_text(least)} of every training image: there is nothing to learn"
            f"{_because(journal)}"
        )
    if most - least < COARSE * max(abs(least), abs(most)):
        raise DataError(
            f"{_of(target)}the numbers lie between {number_text(least)} and {number_text(most)}, so near to each other "
            "for their size that they are the same to a network (float32): subtract one number from all of them"
        )
    return ()


def _check_splits(journal: Journal, needed: tuple[Split, ...], target: Target, given: bool) -> None:
    """Whether the splits that count have images; of a further task, those to learn from and to choose on."""
    known = f"{USED} AND {values_of(target).known}"
    splits = journal.counts(f"SELECT split, COUNT(*) FROM rows WHERE {known} GROUP BY split")
    told = ", ".join(f"{count:,} {name}" for name, count in splits.items())
    if target.column == LABEL:
        if missing := next((split for split in needed if not splits.get(split)), None):
            advice = _how_to_fill(journal, target, given, missing)
            raise DataError(
                f"no image falls into the split {missing!r} (there are {told}): {advice}{_because(journal)}"
            )
        return
    for what, parts in (("is learned from", TRAINING), (f"falls into the split {needed[1]!r}", needed[1:2])):
        if not any(splits.get(split) for split in parts):
            raise DataError(f"{_of(target)}no image with a label of it {what} (there are {told}): give more labels")


def _has_whole_groups(journal: Journal) -> bool:
    """Whether there are groups, each of them in one split: ``stratified`` would part them."""
    parted = journal.one("SELECT COUNT(*) FROM noted WHERE kind = 'parted_group'")
    return not parted and bool(journal.one(f'SELECT COUNT(*) FROM rows WHERE {USED} AND "group" IS NOT NULL'))


def _how_to_fill(journal: Journal, target: Target, given: bool, missing: Split) -> str:
    """What puts images into a split that has none; to stratify helps where a class has images for each of three, but
    does away with splits that the source gives."""
    if given and missing == "train":
        return "the source gives only that; with ingest.split.by: hash all of it is cut anew"
    if _has_whole_groups(journal):
        return "give images of more groups, or raise ingest.split.val or ingest.split.test"
    advice = "give more images, or raise ingest.split.val or ingest.split.test"
    counts = {} if target.kind == "number" else count_classes(journal, target)
    if not given and any(sum(by_split.values()) >= 3 for by_split in counts.values()):
        advice += (
            ", or set ingest.split.by to stratified, which puts every class of three images or more into every split"
        )
    return advice


def _of(target: Target) -> str:
    """Which task an error is about, where tasks have names."""
    return "" if target.name == LABEL else f"task {target.name!r}: "


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
