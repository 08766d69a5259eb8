"""Several files that one key names, with braces or wildcards: which there are, and of which splits."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path

from tasks.errors import DataError
from tasks.ingest.naming import SPARE, is_split_list, splits_without_classes
from tasks.ingest.sources.base import local_path
from tasks.ingest.storage import filesystem
from tasks.records import Split
from tasks.workspace import Workspace

STEM = re.compile(r"\.(tar|csv|tsv|txt|jsonl?|ndjson|parquet|xlsx)\b.*", re.IGNORECASE)
"""What a file's name says of its kind."""


def is_pattern(name: str) -> bool:
    """Whether a name may be that of several files. A ``?`` in a URL begins a query."""
    if "://" in name and not name.startswith("file://"):
        return bool(re.search(r"[*{]", name))
    return glob.has_magic(name) or "{" in name


def places_of(pattern: str, workspace: Workspace, one: Callable[[str], Path | str]) -> list[Path | str]:
    """Where files are: paths, or URLs of somewhere else, in the order of their names.

    Args:
        one: where the file of a plain name is; raises where it is not.
    """
    from braceexpand import braceexpand

    whole = local_path(pattern, workspace)
    if not is_pattern(pattern) or (whole is not None and whole.is_file()):
        return [one(pattern)]
    found: list[Path | str] = []
    for name in braceexpand(pattern):
        path = local_path(name, workspace)
        if not is_pattern(name) or (path is not None and path.exists()):
            found.append(one(name))
        elif path is None:
            files, below = filesystem(name)
            found += [files.unstrip_protocol(match) for match in sorted(files.glob(below))]
        else:
            found += sorted(map(Path, glob.glob(str(path), recursive=True)))
    return found


def stem_of(file: str) -> str:
    """A file's name without what it says of its kind."""
    return STEM.sub("", file)


def folders_above(places: Sequence[Path | str]) -> dict[Path | str, str]:
    """The folder of each file below the one that all lie in, with a slash at its end; empty where it is that one."""
    ways = {place: str(place).split("/")[:-1] for place in places}
    shared = len(list(takewhile(lambda names: len(set(names)) == 1, zip(*ways.values(), strict=False))))
    return {place: "".join(f"{name}/" for name in way[shared:]) for place, way in ways.items()}


def splits_of(files: list[str], key: str) -> dict[str, Split]:
    """The splits of files by what they are called, or folders on the way to them; one that all lie in says nothing.

    Args:
        key: what names them in the configuration.

    Raises:
        DataError: a file is called as another split than its folder.
    """
    ways = {file: [*file.split("/")[:-1], stem_of(file.rpartition("/")[2])] for file in files}
    deepest = max(map(len, ways.values())) - 1
    found: dict[str, Split] = {}
    for place in (*range(deepest), -1):
        called = {file: way[place] for file, way in ways.items() if place < len(way)}
        splits = splits_without_classes(called.values(), SPARE)
        if not is_split_list(splits) and (found or place != -1):
            continue
        for file, name in called.items():
            if name in splits and found.setdefault(file, splits[name]) != splits[name]:
                raise DataError(
                    f"{key}: {file} is called as the split {splits[name]}, and its folder as the split {found[file]}: "
                    "rename the one that is wrong"
                )
    return found
