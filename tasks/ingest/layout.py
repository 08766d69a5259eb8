"""What the folders of a tree mean: ``class/file``, ``split/class/file``, ``domain/class/file`` and so on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from tasks.errors import ConfigurationError
from tasks.ingest.sources.base import SPLITS

Word = Literal["label", "split", "domain", "group", "*"]


class Placed(NamedTuple):
    """What a path says of its image."""

    path: str
    label: str | None
    split: str | None
    domain: str | None
    group: str | None


class Layout(NamedTuple):
    """Meaning of the folders on the way to an image.

    Attributes:
        words: one per folder; deeper folders belong to the label.
        prefix: folders around the whole tree, which mean nothing, with a slash at the end.
    """

    words: tuple[str, ...]
    prefix: str = ""

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

    @classmethod
    def find(cls, text: str, folders: Iterable[str]) -> Layout:
        """The layout of a tree whose images lie in ``folders``.

        ``auto`` means ``split/label`` where all folders at the top are called as splits are, else ``label``. A single
        folder around the whole is entered, as archives have it.
        """
        parts = [tuple(folder.split("/")) if folder else () for folder in folders]
        depth = 1 if text == "auto" else len(text.split("/"))
        prefix: tuple[str, ...] = ()
        while _is_wrapper(tops := {part[:1] for part in parts}, parts, depth, text):
            prefix += next(iter(tops))
            parts = [part[1:] for part in parts]
        if text == "auto":
            named = {part[0].lower() for part in parts if part}
            layout = cls(("split", "label") if named and named <= set(SPLITS) else ("label",))
        else:
            layout = cls.parse(text)
        return cls(layout.words, "".join(f"{name}/" for name in prefix))

    def place(self, path: str) -> Placed:
        """Read a path. Where folders are missing, the label is None; a folder of a split has its usual name."""
        relative = path.removeprefix(self.prefix)
        folders = relative.split("/")[:-1]
        said = dict(zip(self.words, folders, strict=False))
        split = said.get("split")
        if split is not None:
            split = SPLITS.get(split.lower())
        label = said.get("label")
        if (label is not None and SPLITS.get(label.lower()) == "pool") or (split == "pool" and label is None):
            label, split = None, "pool"
        return Placed(relative, label, split, said.get("domain"), said.get("group"))


def _is_wrapper(tops: set[tuple[str, ...]], parts: list[tuple[str, ...]], depth: int, text: str) -> bool:
    """Whether all images lie below one folder that the layout does not need."""
    if len(tops) != 1 or () in tops or min(map(len, parts)) <= depth:
        return False
    return text != "auto" or next(iter(tops))[0].lower() not in SPLITS
