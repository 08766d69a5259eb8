"""Where the images of a table's rows lie: below its own folder, and below others that are named."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from tasks.errors import DataError
from tasks.ingest.kinds import Problem
from tasks.ingest.naming import has_drive, slashed
from tasks.ingest.nearby import in_its_form, plain_path
from tasks.ingest.sources.base import FILLED, is_filled, local_path
from tasks.workspace import Workspace


class Roots:
    """The folders and URLs below which rows may name images.

    Args:
        above: the folder of the dataset, with a slash at its end, that the table's own is.
    """

    def __init__(self, table: Path | str, named: list[str], workspace: Workspace, above: str = "") -> None:
        self.base = table.parent if isinstance(table, Path) else table.rpartition("/")[0]
        self.folders: list[Path] = [self.base.resolve()] if isinstance(self.base, Path) else []
        self.urls = [] if isinstance(self.base, Path) else [f"{self.base}/"]
        own: set[Path | str] = {*self.folders, *self.urls}
        places: list[Path | str] = []
        for root in named:
            path = local_path(root, workspace)
            places.append(root.rstrip("/") + "/" if path is None else path.resolve())
        self.folders += [place for place in places if isinstance(place, Path)]
        self.filled = {folder for folder in self.folders if is_filled(folder, workspace)}
        self.urls += [place for place in places if isinstance(place, str)]
        self.above = _names_of([place for place in dict.fromkeys(places) if place not in own])
        self.above |= dict.fromkeys(own, above)

    def find(self, named: str) -> tuple[str, str, Problem | None]:
        """Where a row's image is to be read, and where it belongs in the dataset.

        Raises:
            DataError: it lies below a folder that headstart itself fills.
        """
        named = plain_path(named) if isinstance(self.base, Path) else named
        if "\0" in named or len(named) > 4096:
            return "", "", Problem("bad_row", "its path holds a zero byte or is longer than 4,096 characters")
        if has_drive(named):
            told = f"{named} is on a drive of Windows; write paths relative to the table's folder"
            return "", "", Problem("unsafe_path", told)
        if "://" not in named and isinstance(self.base, Path):
            path, *others = self._places(named)
            if others:
                told = f"{named} lies below several folders of ingest.source.roots: write paths that tell which"
                return "", "", Problem("bad_row", told)
            real = Path(os.path.realpath(path))  # follows links and '..', and says nothing where links lead in circles
            # A link to an image has a name of its own.
            shown = Path(os.path.realpath(path.parent), path.name) if os.path.islink(path) else real
            for folder in self.folders:
                if real.is_relative_to(folder):
                    if folder in self.filled:
                        raise DataError(f"{named} lies in {folder}, {FILLED}")
                    kept = shown if shown.is_relative_to(folder) else real
                    return str(real), self.above.get(folder, "") + kept.relative_to(folder).as_posix(), None
            return "", "", Problem("unsafe_path", f"{named} leads out of the table's folder and ingest.source.roots")
        url = named if "://" in named else f"{self.base}/{named}"
        for root in self.urls:
            if url.startswith(root) and ".." not in PurePosixPath(unquote(urlsplit(url).path)).parts:
                return url, self.above.get(root, "") + url.removeprefix(root).replace("?", "-"), None
        return "", "", Problem("unsafe_path", f"{named} lies below no URL of ingest.source.roots")

    def _places(self, named: str) -> list[Path]:
        """Where on this machine a path leads to something: below the table's folder or, where it does not, each root;
        below the former where nothing is there at all."""
        assert isinstance(self.base, Path)
        if named.startswith("/"):
            return [_spelt(Path(named))]
        own = _spelt(self.base / named, self.base / slashed(named))
        if os.path.lexists(own):
            return [own]
        others = (_spelt(folder / named, folder / slashed(named)) for folder in self.folders[1:])
        return [path for path in others if os.path.lexists(path)] or [own]


def _spelt(*paths: Path) -> Path:
    """The first of several paths that is there, be it in another form of Unicode; else the last."""
    for path in paths:
        if os.path.lexists(path):
            return path
    path = paths[-1]
    return path if str(path).isascii() else in_its_form(path)


def _names_of(roots: list[Path | str]) -> dict[Path | str, str]:
    """The folder of the dataset, with a slash at its end, in which the images below each of several roots are: two may
    hold different images of one name. Below a single root, names are as they are there."""
    if len(roots) < 2:
        return {}
    names = [root.name if isinstance(root, Path) else _last_part(root) for root in roots]
    return {
        root: f"{name}/" if name and names.count(name) == 1 else f"{number}-{name}/"
        for number, (root, name) in enumerate(zip(roots, names, strict=True), 1)
    }


def _last_part(url: str) -> str:
    """What a URL's folder is called, or its host."""
    parts = urlsplit(url)
    return parts.path.rstrip("/").rpartition("/")[2] or parts.hostname or ""
