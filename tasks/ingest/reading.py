"""How a tree of folders reads to a person: where its splits and classes are, or in which ways it can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from tasks.errors import ConfigurationError
from tasks.ingest.layout import Layout, Placed
from tasks.ingest.naming import (
    LEARNT_OR_HELD_OUT,
    called,
    is_split_list,
    look_alike,
    plainly_called,
    settle_evaluation,
    split_names,
    splits_called,
)
from tasks.records import Split

Tree = dict[tuple[str, ...], int]
"""How many images lie directly in a folder, by the names on the way to it."""

ASIDE = frozenset(
    """sample samples example examples demo meta metadata annotation annotations label labels mask masks run runs log
    logs doc docs figure figures fig figs plot plots result results output outputs report reports preview previews tmp
    temp model models checkpoint checkpoints weights script scripts code src notebooks assets misc other
    readme""".split()  # noqa: SIM905 (a wall of quotes)
)
"""What lies beside splits and is none, nor a class beside a folder called ``train`` that holds classes."""

SHOWN = 6
"""Names that a reading shows of each sort."""

DEEPEST = 4
"""Levels in which the splits of a tree are looked for."""


def find_layout(text: str, images: Mapping[str, int], key: str = "ingest.source.layout") -> Layout:
    """The layout of a tree, as it was written or as a person would read it.

    Args:
        text: ``auto``, or words as in `Layout.parse`.
        images: by folder, how many images lie directly in it.
        key: what the layout is called in the configuration.

    Raises:
        ConfigurationError: the layout is not understood, or the tree can be read in several ways.
    """
    tree = {tuple(folder.split("/")) if folder else (): count for folder, count in images.items()}
    written = None if text == "auto" else Layout.parse(text)
    prefix: tuple[str, ...] = ()
    while inner := _around_splits(tree) if written is None else _around(tree, written.words):
        prefix += (inner,)
        tree = _below(tree)[inner]
    layout = _written(written, tree) if written else _Reader(tree, key).layout()
    return replace(layout, prefix="".join(f"{name}/" for name in prefix))


def is_aside(name: str) -> bool:
    """Whether a folder's name is that of something beside the images."""
    return look_alike(name) in ASIDE


def _around(tree: Tree, words: tuple[str, ...]) -> str | None:
    """The folder around a tree that ``words`` have no use for: the only one, with all images further below."""
    tops = _below(tree)
    if len(tops) != 1 or min(len(folders) for folders in tree if folders) <= len(words):
        return None
    only = next(iter(tops))
    return None if plainly_called(only) and words[0] == "split" else only


def _around_splits(tree: Tree) -> str | None:
    """The folder around a tree: the only one, or of several the only one that holds splits of classes."""
    tops = _below(tree)
    if is_split_list(split_names(tops)):
        return None
    if len(tops) == 1:
        only = next(iter(tops))
        return only if _around(tree, ("label",)) and not plainly_called(only) else None
    holding = [name for name, below in tops.items() if _holds_splits(below)]
    return holding[0] if len(holding) == 1 and not plainly_called(holding[0]) else None


def _holds_splits(tree: Tree, depth: int = DEEPEST) -> bool:
    tops = _below(tree)
    splits = split_names(tops)
    if is_split_list(splits):
        return any(len(_below(tops[name])) > 1 for name in splits)
    return depth > 1 and any(_holds_splits(below, depth - 1) for below in tops.values())


def _below(tree: Tree) -> dict[str, Tree]:
    """The trees below the folders at the top."""
    tops: dict[str, Tree] = {}
    for folders, count in tree.items():
        if folders:
            tops.setdefault(folders[0], {})[folders[1:]] = count
    return tops


def _written(layout: Layout, tree: Tree) -> Layout:
    """A layout that only its words tell, with the splits that the names of a tree's folders mean beside each other."""
    if "split" in layout.words:
        place = layout.words.index("split")
        layout = replace(layout, splits=splits_called({folders[place] for folders in tree if len(folders) > place}))
    return _detailed(layout, tree)


def _detailed(layout: Layout, tree: Tree) -> Layout:
    """The layout with those folders of splits that are repeated or hold no classes."""
    if layout.words[:2] != ("split", "label"):
        return layout
    tops = {name: below for name, below in _below(tree).items() if layout.place(f"{name}/x").split}
    repeated = set()
    for name, below in tops.items():
        inner = _below(below)
        only = next(iter(inner), "")
        same = look_alike(only) == look_alike(name) or plainly_called(only) == layout.place(f"{name}/x").split
        if len(inner) == 1 and () not in below and same:
            repeated.add(f"{name}/{only}")
            tops[name] = inner[only]
    flat = {name for name, below in tops.items() if set(below) == {()}}
    return replace(layout, repeated=frozenset(repeated), flat=frozenset(flat if flat < set(tops) else ()))


class _Reader:
    """Reads the folders of one tree."""

    def __init__(self, tree: Tree, key: str) -> None:
        self.tree, self.key, self.tops = tree, key, _below(tree)

    def layout(self) -> Layout:
        """The one way in which the tree can be read.

        Raises:
            ConfigurationError: there are several.
        """
        splits = self._splits()
        kinds = LEARNT_OR_HELD_OUT.intersection(splits.values())
        others = self.tops.keys() - splits.keys()
        layout = _detailed(Layout(("split", "label"), splits=splits), self.tree)
        classes = {placed.label for placed in _placed(layout, self.tree) if placed.label and placed.split in kinds}
        has_classes = len(classes) > (1 if others and len(kinds) == 1 else 0)
        if kinds and has_classes and (len(kinds) > 1 or all(map(is_aside, others))):
            return self._below_splits(layout)
        if kinds and not others and len(kinds) == 1:
            return layout
        if self._is_much_like_splits(kinds, has_classes):
            raise self._stop("split/label", "label")
        return self._classes()

    def _splits(self) -> dict[str, Split]:
        """The folders at the top that are splits; a further one of a split (``test_foggy``) by its classes."""
        splits = split_names(self.tops)
        if is_split_list(splits):
            classes = {name for split in splits for name in _below(self.tops[split])}
            for name, below in self.tops.items():
                if (more := called(name)) and more.split in splits.values() and classes & _below(below).keys():
                    splits[name] = more.split
        return settle_evaluation(splits)

    def _is_much_like_splits(self, kinds: Iterable[Split], has_classes: bool) -> bool:
        if len(set(kinds)) > 1 or (kinds and has_classes):
            return True
        likely = {name: found.split for name in self.tops if (found := called(name))}
        deep = any(_below(self.tops[name]) for name in likely)
        return is_split_list(likely) and (deep or likely.keys() == self.tops.keys())

    def _below_splits(self, layout: Layout) -> Layout:
        below: Tree = {}
        for folders, count in self.tree.items():
            if folders and folders[0] in (layout.splits or {}):
                start = 2 if "/".join(folders[:2]) in layout.repeated else 1
                below[folders[start:]] = below.get(folders[start:], 0) + count
        if _have_the_same_folders(below):
            raise self._stop("split/label", "split/domain/label")
        return layout

    def _classes(self) -> Layout:
        """The tree as one of classes, where no folder below them says otherwise."""
        second = {folders[1] for folders in self.tree if len(folders) > 1}
        splits = split_names(second)
        inside = [folders for folders in self.tree if len(folders) > 1 and folders[1] in splits]
        deeper = any(len(folders) > 2 for folders in inside)
        most = 2 * sum(self.tree[folders] for folders in inside) >= sum(self.tree.values())
        if most and (is_split_list(splits) or (deeper and splits)) and len(self.tops) > 1:
            if deeper or splits.keys() != second:
                raise self._stop("domain/split/label", "label/split", "label")
            return Layout(("label", "split"), splits=splits)
        if _have_the_same_folders(self.tree):
            raise self._stop("label", "domain/label")
        return Layout(("label",))

    def _stop(self, *layouts: str) -> ConfigurationError:
        told = [f"  layout: {text:<18} {_told(_written(Layout.parse(text), self.tree), self.tree)}" for text in layouts]
        return ConfigurationError(
            f"the folders can be read in {len(layouts)} ways; say in {self.key} which is right "
            "(* stands for a folder that means nothing):\n" + "\n".join(told)
        )


def _have_the_same_folders(tree: Tree) -> bool:
    """Whether most images lie in folders of names that stand below several folders at the top: domains of the same
    classes look so, and so do classes of the same scenes; only words could tell them apart."""
    above: dict[str, set[str]] = {}
    images: Counter[str] = Counter()
    for folders, count in tree.items():
        if len(folders) > 1:
            name = look_alike(folders[1])
            above.setdefault(name, set()).add(folders[0])
            images[name] += count
    shared = [name for name, tops in above.items() if len(tops) > 1]
    return len(shared) > 1 and 2 * sum(images[name] for name in shared) >= sum(tree.values())


def _told(layout: Layout, tree: Tree) -> str:
    """What a reading gives: classes, splits and domains with their images, in a line."""
    counts: dict[str, Counter[str]] = {"classes": Counter(), "splits": Counter(), "domains": Counter()}
    kept_out = 0
    for placed, count in zip(_placed(layout, tree), tree.values(), strict=True):
        if layout.problem(placed):
            kept_out += count
            continue
        for kind, name in zip(counts, (placed.label, placed.split, placed.domain), strict=True):
            counts[kind][name or ""] += count
    if not any(counts["classes"]):
        return "no classes: a table could tell them (source: {table: ...})"
    parts = [f"{kind} {_named(found)}" for kind, found in counts.items() if any(found)]
    return "; ".join([*parts, *([f"{kept_out:,} images kept out"] if kept_out else [])])


def _named(counts: Counter[str]) -> str:
    known = sorted((name, count) for name, count in counts.items() if name)
    shown = [f"{name if len(name) <= 24 else name[:23] + '…'} ({count:,})" for name, count in known[:SHOWN]]
    return ", ".join(shown) + (f" and {len(known) - SHOWN:,} more" if len(known) > SHOWN else "")


def _placed(layout: Layout, tree: Tree) -> Iterator[Placed]:
    """What an image of each folder is."""
    return (layout.place("/".join((*folders, "x"))) for folders in tree)
