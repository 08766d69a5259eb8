"""Folders that mean nothing: the one around a tree (``dataset/train/cat``), and those that part it (``part1/cat``)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tasks.errors import ConfigurationError
from tasks.ingest.naming import (
    is_aside,
    is_split_list,
    look_alike,
    plainly_called,
    says_unlabelled,
    split_called,
    split_names,
    words_of,
)
from tasks.wording import shorten

Tree = dict[tuple[str, ...], int]
"""How many images lie directly in a folder, by the names on the way to it."""

PARTS = frozenset(
    """part parts pt batch batches chunk chunks shard shards image images img imgs photo photos picture pictures folder
    folders dir subfolder archive zip volume vol data dataset subset""".split()  # noqa: SIM905 (a wall of quotes)
)
"""Words that, with a number, name a part of a set of images."""

DEEPEST = 4
"""Levels in which the splits of a tree are looked for."""


def around_splits(tree: Tree) -> str | None:
    """The folder around a tree: the only one, or of several the only one that holds splits of classes.

    Raises:
        ConfigurationError: what lies beside such a folder may belong to what it holds.
    """
    tops = trees_below(tree)
    if is_split_list(split_names(tops)):
        return None
    if len(tops) == 1:
        only = next(iter(tops))
        return only if all(len(folders) != 1 for folders in tree) and _may_be_around(only, tops[only]) else None
    holding = [name for name, below in tops.items() if holds_splits(below)]
    if len(holding) != 1 or not _may_be_around(holding[0], tops[holding[0]]):
        return None
    if beside := _like_what_it_holds(holding[0], tops):
        raise ConfigurationError(
            f"{holding[0]}/ holds splits, and {shorten(beside)} beside it may be one of them, or hold the same "
            f"classes: move it into {holding[0]}/ or elsewhere, or name {holding[0]}/ alone as the source"
        )
    return holding[0]


def _like_what_it_holds(holding: str, tops: Mapping[str, Tree]) -> list[str]:
    """Folders beside one that holds splits which are called as a split is, or as what it holds, or hold the like."""
    inside = _names_in(tops[holding])
    others = {name: below for name, below in tops.items() if name != holding and not is_aside(name)}
    return sorted(
        name for name, below in others.items() if split_called(name) or inside & {look_alike(name), *_names_in(below)}
    )


def _names_in(tree: Tree) -> set[str]:
    return {look_alike(name) for folders in tree for name in folders}


def _may_be_around(name: str, below: Tree) -> bool:
    """Whether a folder is no split itself: by its name, or because the splits lie right in it (``train.zip``)."""
    return not plainly_called(name) or holds_splits(below, 1)


def holds_splits(tree: Tree, depth: int = DEEPEST) -> bool:
    """Whether splits of classes stand beside each other at the top of a tree, or so many levels down."""
    tops = trees_below(tree)
    splits = split_names(tops)
    if is_split_list(splits):
        return any(len(trees_below(tops[name])) > 1 or len(classes_in(tops[name])) > 1 for name in splits)
    return depth > 1 and any(holds_splits(below, depth - 1) for below in tops.values())


def trees_below(tree: Tree) -> dict[str, Tree]:
    """The trees below the folders at the top."""
    tops: dict[str, Tree] = {}
    for folders, count in tree.items():
        if folders:
            tops.setdefault(folders[0], {})[folders[1:]] = count
    return tops


def classes_in(tree: Tree) -> set[str]:
    """The folders in the only one of a split; none where it has several."""
    only = only_folder(tree)
    return set() if only is None else set(trees_below(trees_below(tree)[only]))


def only_folder(tree: Tree) -> str | None:
    """The only folder in which all images of a split lie, but for those in folders that say that they have no label."""
    names = [name for name in trees_below(tree) if not says_unlabelled(name)]
    return names[0] if len(names) == 1 and () not in tree else None


def only_part_images(tree: Tree) -> bool:
    """Whether folders at the top are called as parts of one set, ``part1`` and ``part2``, ``images_001`` and
    ``images_002``, or as the letter that all names in them begin with: they are hardly classes."""
    tops = trees_below(tree)
    if len(tops) < 2 or () in tree:
        return False
    inner = {name: {look_alike(each) for each in trees_below(below)} for name, below in tops.items()}
    if all(len(name) == 1 and name.isalpha() for name in tops):
        return all(each.startswith(look_alike(name)) for name, names in inner.items() for each in names or {""})
    bare = {re.sub(r"\d+", "", name.casefold()) for name in tops}
    numbered = all(re.search(r"\d", name) for name in tops)
    return numbered and len(bare) == 1 and not PARTS.isdisjoint(words_of(next(iter(bare))))
