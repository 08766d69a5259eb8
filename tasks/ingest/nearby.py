"""Files that a table's rows name nearly: in another form of Unicode, in other capitals, as a URL, without an ending."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote

ENDINGS = (".jpg", ".png", ".jpeg", ".JPG", ".webp", ".tif", ".bmp")
"""What tables often leave out of files' names."""

FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
"""In which systems write names: most as they are typed, macOS taken apart."""

FILE_URL = re.compile(r"file:(?://(?:localhost)?)?(?=/)(.*)", re.IGNORECASE | re.DOTALL)
"""A URL of a file on this machine, however many slashes it begins with."""


def plain_path(named: str) -> str:
    """The path that a URL of a file on this machine names; all else as it is."""
    found = FILE_URL.fullmatch(named)
    return re.sub(r"^/(?=[A-Za-z]:)", "", unquote(found[1])) if found else named


def in_its_form(path: Path) -> Path:
    """The path in the form of Unicode that each of its names has on the disk; as it is where that is not there."""
    found = Path(path.parts[0])
    for name in path.parts[1:]:
        forms = (name, *(unicodedata.normalize(form, name) for form in FORMS))
        there = next((each for form in forms if os.path.lexists(each := found / form)), None)
        if there is None:
            return path
        found = there
    return found


def hint(place: str) -> str:
    """What is there instead of a file that is not, as the end of a sentence; empty where nothing comes near it."""
    if ending := next((ending for ending in ENDINGS if os.path.isfile(place + ending)), None):
        return f"; {os.path.basename(place)}{ending} is there: write the ending, too, or ingest.source.suffix: {ending}"
    near = _near(place)
    return f"; {near!r} is there: write it so" if near else ""


def hint_below(base: str, named: str) -> str:
    """Of a name that is not there below a folder, the folder in it that has it, as the end of a sentence."""
    above, name = os.path.split(named)
    for folder in _entries(base).folders:
        there = _entries(os.path.join(base, folder, above)).files
        for ending in ("", *ENDINGS):
            if name + ending in there:
                more = f", and ingest.source.suffix: {ending}" if ending else ""
                return f"; {folder}/{named}{ending} is there: name that folder in ingest.source.roots{more}"
    return ""


class _Entries(NamedTuple):
    """Names in a folder: of the first folders in their order, and of files."""

    folders: tuple[str, ...] = ()
    files: frozenset[str] = frozenset()


def _entries(folder: str) -> _Entries:
    with suppress(OSError):
        return _listed(folder, os.stat(folder).st_mtime_ns)
    return _Entries()


@lru_cache(maxsize=128)  # of a table's rows, each may lack its image
def _listed(folder: str, changed: int) -> _Entries:
    with os.scandir(folder) as found:
        entries = list(found)
    folders = sorted(entry.name for entry in entries if entry.is_dir())[:100]
    return _Entries(tuple(folders), frozenset(entry.name for entry in entries if entry.is_file()))


def _near(place: str) -> str | None:
    """From the first name on that differs, the path that is there."""
    found = "/"
    differing: list[str] = []
    for name in Path(place).parts[1:]:
        there = name if os.path.lexists(os.path.join(found, name)) else _called_alike(found, name)
        if there is None:
            return None
        if differing or there != name:
            differing.append(there)
        found = os.path.join(found, there)
    return "/".join(differing) if os.path.isfile(found) else None


def _called_alike(folder: str, name: str) -> str | None:
    try:
        names = _names(folder, os.stat(folder).st_mtime_ns)
    except OSError:
        return None
    return names.get(_alike(name)) or names.get(_alike(unquote(name)))


@lru_cache(maxsize=8)
def _names(folder: str, changed: int) -> Mapping[str, str]:
    """The names in a folder, as it was when it last changed, by what those that are alike have in common."""
    return {_alike(name): name for name in sorted(os.listdir(folder))}


def _alike(name: str) -> str:
    text = unicodedata.normalize("NFC", name.casefold())
    return "".join(sign for sign in text if unicodedata.category(sign) != "Cf").strip()
