"""How a tree of folders reads to a person: where its splits and classes are, or in which ways it can be read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from tasks.errors import ConfigurationError
from tasks.ingest.around import DEEPEST, Tree, around_splits, classes_in, only_folder, only_part_images, trees_below
from tasks.ingest.layout import Layout, Placed
from tasks.ingest.naming import (
    ANNOTATIONS,
    LEARNT_OR_HELD_OUT,
    PICTURES,
    called,
    is_aside,
    is_spare,
    is_split_list,
    look_alike,
    plainly_called,
    says_unlabelled,
    settle_evaluation,
    split_called,
    split_names,
    splits_called,
    without_spare,
)
from tasks.records import Split
from tasks.wording import shorten

SHOWN = 6
"""Names that a reading shows of each sort."""


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
    while inner := around_splits(tree) if written is None else _around_written(tree, text):
        prefix += (inner,)
        tree = trees_below(tree)[inner]
    layout = _written(written, tree) if written else _Reader(tree, key, prefix).layout()
    return replace(layout, prefix="".join(f"{name}/" for name in prefix))


def _around_written(tree: Tree, text: str) -> str | None:
    """The folder around a tree that the words of a layout have no use for: the only one, with all images further below,
    or the only one that can be no split, or the only class. Of domains and groups, a single one would say nothing."""
    words, tops = text.split("/"), trees_below(tree)
    only = next(iter(tops), "")
    if len(tops) != 1 or (plainly_called(only) and words[0] == "split"):
        return None
    classes, inner = len(_classes_of(text, tree)), len(_classes_of(text, tops[only]))
    more = min(len(folders) for folders in tree if folders) - len(words)
    if more <= 0:
        return only if words[0] in ("label", "split") and classes < 2 <= inner else None
    return None if words[0] == "*" and classes else only


def _written(layout: Layout, tree: Tree) -> Layout:
    """A layout that only its words tell, with the splits that the names of a tree's folders mean beside each other."""
    if "split" in layout.words:
        place = layout.words.index("split")
        names = {folders[place] for folders in tree if len(folders) > place}
        layout = replace(layout, splits=without_spare(splits_called(names)))
    return _detailed(layout, tree)


def _detailed(layout: Layout, tree: Tree) -> Layout:
    """The layout with those folders of splits that are repeated, stand around its classes, or hold none."""
    if layout.words[:2] != ("split", "label"):
        return layout
    tops = _splits_of(layout, tree)
    repeated = {}
    for name, below in tops.items():
        if (only := only_folder(below)) is None:
            continue
        classes = {each for its in tops.values() if only_folder(its) != only for each in trees_below(its)}
        same = look_alike(only) == look_alike(name) or plainly_called(only) == layout.place(f"{name}/x").split
        around = len(classes & classes_in(below)) > 1 or (len(classes) > 1 and _holds_pictures(only, below))
        if same or (only not in classes and around):
            repeated[name] = only
    return _with_repeated(layout, tops, repeated)


def _holds_pictures(name: str, tree: Tree) -> bool:
    """Whether the only folder of a split is called as one of pictures and holds nothing else: ``val/images``."""
    return trees_below(tree)[name].keys() == {()} and look_alike(name) in PICTURES


def _with_repeated(layout: Layout, tops: Mapping[str, Tree], repeated: Mapping[str, str]) -> Layout:
    inside = {name: trees_below(below)[repeated[name]] if name in repeated else below for name, below in tops.items()}
    flat = {name for name, below in inside.items() if set(below) == {()}}
    return replace(
        layout,
        repeated=frozenset(map("/".join, repeated.items())),
        flat=frozenset(flat if flat < set(tops) else ()),
    )


def _splits_of(layout: Layout, tree: Tree) -> dict[str, Tree]:
    """The trees below the folders at the top that are splits."""
    return {name: below for name, below in trees_below(tree).items() if layout.place(f"{name}/x").split}


class _Reader:
    """Reads the folders of one tree, below those of a prefix; a layout that is written is of the whole tree."""

    def __init__(self, tree: Tree, key: str, prefix: Sequence[str] = (), whole: Tree | None = None) -> None:
        self.tree, self.key, self.prefix, self.tops = tree, key, prefix, trees_below(tree)
        self.whole = whole or tree

    def layout(self) -> Layout:
        """The one way in which the tree can be read.

        Raises:
            ConfigurationError: there are several, or its classes are pictures and their annotations.
        """
        layout = self._layout()
        classes = {placed.label for placed in _placed(layout, self.tree) if placed.label}
        called_so = {re.sub(r"[\W_]", "", look_alike(name)) for name in classes}
        if called_so & ANNOTATIONS and called_so <= PICTURES | ANNOTATIONS:
            raise ConfigurationError(
                f"the folders {shorten(sorted(classes))} look like pictures and what is marked on them, not like "
                f"classes; {self.key}: {'/'.join(layout.words)} takes them for classes"
            )
        return layout

    def _layout(self) -> Layout:
        splits = self._splits()
        kinds = LEARNT_OR_HELD_OUT.intersection(splits.values())
        others = self.tops.keys() - splits.keys()
        layout = self._within(_detailed(Layout(("split", "label"), splits=splits), self.tree))
        classes = {placed.label for placed in _placed(layout, self.tree) if placed.label and placed.split in kinds}
        has_classes = len(classes) > (1 if others and len(kinds) == 1 else 0)
        if kinds and has_classes and (len(kinds) > 1 or all(map(is_aside, others))):
            if unread := sorted(name for name in others if self._is_like_a_split(name, classes)):
                raise self._stop("split/label", "domain/label", unread=unread)
            return self._below_splits(layout)
        if kinds and not others and len(kinds) == 1:
            return layout
        if self._is_much_like_splits(kinds, has_classes):
            raise self._stop("split/label", "label")
        holding = _hold_those_beside(self.tree)
        return self._beside_spare(holding) or self._classes(holding)

    def _splits(self) -> dict[str, Split]:
        """The folders at the top that are splits; a further one of a split (``test_foggy``) by its classes."""
        splits = split_names(self.tops)
        if is_split_list(splits):
            classes = {name for split in splits for name in trees_below(self.tops[split])}
            for name, below in self.tops.items():
                more = split_called(name)
                if more and more in splits.values() and classes & trees_below(below).keys():
                    splits[name] = more
        return without_spare(settle_evaluation(splits))

    def _within(self, layout: Layout) -> Layout:
        """The layout, where each split holds one folder of the same name around several: these are the classes."""
        tops = _splits_of(layout, self.tree)
        held = {name: below for name, below in tops.items() if layout.place(f"{name}/x").split in LEARNT_OR_HELD_OUT}
        only = {name: found for name, below in held.items() if set(below) != {()} and (found := only_folder(below))}
        alike = len({look_alike(name) for name in only.values()}) == 1
        flat = {name for name, below in held.items() if set(below) == {()}}
        several = any(len(classes_in(tops[name])) > 1 for name in only)
        if layout.repeated or not alike or not several or only.keys() | flat != held.keys():
            return layout
        return _with_repeated(layout, tops, only)

    def _is_like_a_split(self, name: str, classes: Iterable[str]) -> bool:
        """Whether a folder beside splits holds their classes and may be one whose name nobody knows."""
        inner = {look_alike(folder) for folder in trees_below(self.tops[name])}
        shared = inner & {look_alike(each) for each in classes}
        return len(shared) > 1 and 2 * len(shared) >= len(inner) and not is_spare(name)

    def _is_much_like_splits(self, kinds: Iterable[Split], has_classes: bool) -> bool:
        if len(set(kinds)) > 1 or (kinds and has_classes):
            return True
        likely = {name: found.split for name in self.tops if (found := called(name))}
        deep = any(trees_below(self.tops[name]) for name in likely)
        return is_split_list(likely) and (deep or likely.keys() == self.tops.keys())

    def _below_splits(self, layout: Layout) -> Layout:
        below: Tree = {}
        for folders, count in self.tree.items():
            if folders and folders[0] in (layout.splits or {}):
                start = 2 if "/".join(folders[:2]) in layout.repeated else 1
                below[folders[start:]] = below.get(folders[start:], 0) + count
        if (alike := _have_the_same_folders(below)) or _hold_those_beside(below):
            raise self._stop("split/label", f"split/{alike or 'domain/label'}")
        if only_part_images(below):
            raise self._stop("split/label", "split/*/label")
        if len(classes := trees_below(below)) == 1 and len(trees_below(*classes.values())) > 1:
            raise self._stop("split/label", "split/*/label")
        return layout

    def _beside_spare(self, holding: Mapping[str, float]) -> Layout | None:
        """The tree without folders that hold the classes once more and are called as what is spare, or as the folder
        around them, as where an archive was unpacked twice."""
        around = {look_alike(name) for name in self.prefix[-1:]}
        held = [name for name, share in holding.items() if share >= 1 / 2]
        spare = {name for name in held if is_spare(name) or look_alike(name) in around}
        if not spare or len(self.tops.keys() - spare) < 2:
            return None
        tree = {folders: count for folders, count in self.tree.items() if not folders or folders[0] not in spare}
        return replace(_Reader(tree, self.key, self.prefix, self.whole).layout(), aside=frozenset(spare))

    def _classes(self, holding: Iterable[str]) -> Layout:
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
        if readings := self._with_splits_below():
            raise self._stop(*readings, "label")
        if alike := _have_the_same_folders(self.tree):
            raise self._stop("label", alike)
        if only_part_images(self.tree):
            raise self._stop("label", "*/label")
        if holding:
            raise ConfigurationError(
                f"folders in {shorten(sorted(holding))} are called as those beside, and what holds the classes once "
                f"more may be none itself: move it elsewhere, or say {self.key}: label, which takes it for a class"
            )
        return Layout(("label",))

    def _with_splits_below(self) -> list[str]:
        """Layouts of a tree of classes where splits stand beside each other somewhere below one of them: below few of
        the classes, or deeper than right below them. Of all but the first, those that find one class are left out."""
        for level in range(1, DEEPEST if len(self.tops) > 1 else 1):
            tops = [below for name, below in self.tops.items() if not says_unlabelled(name)]
            below = ({each[level - 1] for each in tree if len(each) >= level} for tree in tops)
            if any(is_split_list(split_names(names)) for names in below):
                first, *others = _layouts_to(level)
                return [first, *(text for text in others if len(_classes_of(text, self.whole)) > 1)]
        return []

    def _stop(self, *layouts: str, unread: Sequence[str] = ()) -> ConfigurationError:
        more = f", or give {shorten(unread)} the name of a split, such as train, val or test" if unread else ""
        # The folder around may be a domain as well, so that it has to be said that it is none.
        above = {text: "*/" * len(self.prefix) if text.startswith(("domain", "*")) else "" for text in layouts}
        return _several({above[text] + text: text for text in layouts}, self.whole, self.key, more)


def _several(layouts: Mapping[str, str], tree: Tree, key: str, more: str = "") -> ConfigurationError:
    """The error that a tree can be read in several ways: the layouts, by what is to be written."""
    told = [
        f"  layout: {shown:<18} {_told(_written(Layout.parse(text), tree), tree)}" for shown, text in layouts.items()
    ]
    return ConfigurationError(
        f"the folders can be read in {len(layouts)} ways; say in {key} which is right{more} "
        "(* stands for a folder that means nothing):\n" + "\n".join(told)
    )


def _have_the_same_folders(tree: Tree, between: str = "") -> str | None:
    """The layout of domains where most images lie in folders of names that stand below several folders at the top:
    domains of the same classes look so, and so do classes of the same scenes; only words could tell them apart. The
    only folder in each of those at the top is passed over: ``amazon/images/cat``."""
    tops = trees_below(tree)
    if len(tops) > 1 and all(map(only_folder, tops.values())):
        inner = {(folders[0], *folders[2:]): count for folders, count in tree.items() if len(folders) > 1}
        if found := _have_the_same_folders(inner, f"{between}*/"):
            return found
    above: dict[str, set[str]] = {}
    images: Counter[str] = Counter()
    for folders, count in tree.items():
        if len(folders) > 1:
            name = look_alike(folders[1])
            above.setdefault(name, set()).add(folders[0])
            images[name] += count
    shared = [name for name, tops in above.items() if len(tops) > 1]
    same = len(shared) > 1 and 2 * sum(images[name] for name in shared) >= sum(tree.values())
    return f"domain/{between}label" if same else None


def _hold_those_beside(tree: Tree) -> dict[str, float]:
    """Folders that hold the names beside them once more, with the share that these are of what they hold: several, or
    one where their own names say so. Less than a quarter of a folder's images are its own, whatever they lie in."""
    tops = trees_below(tree)
    names, holding = {look_alike(name) for name in tops}, {}
    for name, below in tops.items():
        inner = {look_alike(each) for each in trees_below(below)}
        shared = names & inner - {look_alike(name)}
        images = sum(count for folders, count in below.items() if folders and look_alike(folders[0]) in shared)
        several = len(shared) > 1 and 4 * images >= sum(below.values())
        once_more = several or (shared and shared == inner and is_spare(name) and len(names) > 2)
        if once_more and not says_unlabelled(name):
            holding[name] = len(shared) / len(inner)
    return holding


def _layouts_to(level: int) -> Iterator[str]:
    """Layouts whose splits stand below so many folders, of which one is the label, perhaps in a domain."""
    for place in range(level):
        words = ["*"] * level
        words[max(0, place - 1) : place + 1] = ["domain", "label"] if place else ["label"]
        yield "/".join([*words, "split"])


def _classes_of(text: str, tree: Tree) -> set[str]:
    """The classes that a layout finds, were it written, also where they have no splits."""
    layout = _written(Layout.parse(text), tree)
    return {placed.label for placed in _placed(layout, tree) if placed.label and not layout.problem(placed)}


def _told(layout: Layout, tree: Tree) -> str:
    """What a reading gives: classes, splits and domains with their images, in a line."""
    counts: dict[str, Counter[str]] = {"classes": Counter(), "splits": Counter(), "domains": Counter()}
    kept_out = 0
    for placed, count in zip(_placed(layout, tree), tree.values(), strict=True):
        if _is_kept_out(layout, placed):
            kept_out += count
            continue
        for kind, name in zip(counts, (placed.label, placed.split, placed.domain), strict=True):
            counts[kind][name or ""] += count
    if not any(counts["classes"]):
        return "no classes: a table could tell them (source: {table: ...})"
    parts = [f"{kind} {_named(found)}" for kind, found in counts.items() if any(found)]
    return "; ".join([*parts, *([f"{kept_out:,} images kept out"] if kept_out else [])])


def _is_kept_out(layout: Layout, placed: Placed) -> bool:
    """Whether an image cannot be used where it stands, or has no split beside others that have one."""
    return layout.problem(placed) is not None or ("split" in layout.words and placed.split is None)


def _named(counts: Counter[str]) -> str:
    known = sorted((name, count) for name, count in counts.items() if name)
    shown = [f"{name if len(name) <= 24 else name[:23] + '…'} ({count:,})" for name, count in known[:SHOWN]]
    return ", ".join(shown) + (f" and {len(known) - SHOWN:,} more" if len(known) > SHOWN else "")


def _placed(layout: Layout, tree: Tree) -> Iterator[Placed]:
    """What an image of each folder is."""
    return (layout.place("/".join((*folders, "x"))) for folders in tree)
