"""What the folders of a tree mean: ``class/file``, ``split/class/file``, ``domain/class/file`` and so on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from tasks.errors import ConfigurationError
from tasks.ingest.kinds import Problem
from tasks.ingest.naming import says_unlabelled, split_called
from tasks.records import Split

Word = Literal["label", "split", "domain", "group", "*"]


class Placed(NamedTuple):
    """What a path says of its image."""

    path: str
    label: str | None
    split: Split | None
    domain: str | None
    group: str | None


@dataclass(frozen=True)
class Layout:
    """Meaning of the folders on the way to an image; `tasks.ingest.reading` finds it.

    Attributes:
        words: one per folder; deeper folders belong to the label.
        prefix: folders around the whole tree, which mean nothing, with a slash at the end.
        splits: the folders that are splits; None where every folder is that is called as one.
        repeated: folders of splits that hold nothing but themselves once more, as in ``seg_train/seg_train/cat``.
        flat: folders of splits without class folders, beside others that have some: images without labels.
        aside: folders beside classes that hold these once more, and are none.
    """

    words: tuple[str, ...]
    prefix: str = ""
    splits: Mapping[str, Split] | None = None
    repeated: frozenset[str] = frozenset()
    flat: frozenset[str] = frozenset()
    aside: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Layout:
        """Read ``domain/label``, for example.

        Raises:
            ConfigurationError: a word is unknown, or stands twice.
        """
        words = tuple(text.split("/"))
        known = get_args(Word)
        for word in words:
            if word not in known or (word != "*" and words.count(word) > 1):
                raise ConfigurationError(
                    f"layout {text!r}: {word!r} must be one of {', '.join(known)}, each once, for example domain/label"
                )
        return cls(words)

    def place(self, path: str) -> Placed:
        """Read a path. Where folders are missing, the label is None; a folder of a split has its usual name."""
        relative = path.removeprefix(self.prefix)
        if relative.partition("/")[0] in self.aside:
            return Placed(relative, None, None, None, None)
        said = self._said(relative)
        split = self._split(said.get("split"))
        label = said.get("label")
        if label is not None and says_unlabelled(label):
            label, split = None, "pool"
        elif label is None and (split == "pool" or said.get("split") in self.flat):
            split = "pool"
        return Placed(relative, label, split, said.get("domain"), said.get("group"))

    def problem(self, placed: Placed) -> Problem | None:
        """Why an image cannot be used where it stands."""
        top = placed.path.partition("/")[0]
        if top in self.aside:
            return Problem(
                "no_label", f"stands in {top}/, which holds the classes beside it once more and is none itself"
            )
        named = self._said(placed.path).get("split")
        if named is not None and placed.split is None:
            return Problem(
                "no_split", f"stands in {named}/, and no split is called so (train, val, test, unlabelled...)"
            )
        if placed.label is None and placed.split != "pool":
            return Problem("no_label", f"stands in no class folder (layout: {'/'.join(self.words)})")
        return None

    def _said(self, relative: str) -> dict[str, str]:
        folders = relative.split("/")[:-1]
        if "/".join(folders[:2]) in self.repeated:
            del folders[1]
        return dict(zip(self.words, folders, strict=False))

    def _split(self, named: str | None) -> Split | None:
        if named is None:
            return None
        return split_called(named) if self.splits is None else self.splits.get(named)
