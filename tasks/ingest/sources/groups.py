"""Groups that are written in the names of files."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from tasks.errors import ConfigurationError


def _checked_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return pattern


GroupPattern = Annotated[str, AfterValidator(_checked_pattern)]
"""A regular expression that finds a group in a file's name."""


class Groups:
    """Groups as a pattern finds them: ``track1`` of ``track1_003.png`` by ``^(track\\d+)_``.

    Args:
        pattern: regular expression that is looked for in a file's name; its first bracket is the group, or all that
            it finds. None for no groups.
        layout: what the folders mean.

    Raises:
        ConfigurationError: the folders give groups already.
    """

    def __init__(self, pattern: str | None, layout: str) -> None:
        self.pattern = re.compile(pattern) if pattern else None
        self.found = self.asked = False
        if pattern and "group" in layout.split("/"):
            raise ConfigurationError(f"layout {layout!r} gives groups, and so does group: take one of them")

    def of(self, path: str) -> str | None:
        """The group of a file."""
        if self.pattern is None:
            return None
        self.asked = True
        match = self.pattern.search(path.rpartition("/")[2])
        self.found = self.found or match is not None
        return match and (match[1] if self.pattern.groups else match[0])

    def check(self) -> None:
        """Once all files were asked for.

        Raises:
            ConfigurationError: no name fits the pattern.
        """
        if self.asked and not self.found:
            raise ConfigurationError(f"group: no file's name fits {self.pattern.pattern!r}")  # type: ignore[union-attr]
