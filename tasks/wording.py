"""How much a message says: no more than a screen, however much there is to tell."""

from __future__ import annotations

import re
from collections.abc import Iterable

SCREEN = 1500
"""Signs of a message: about twenty lines of eighty columns."""

REASON = 400
"""Signs of what is said of one image or row."""

SHOWN = 5
"""Names that a message shows."""

LINES = 20

IN_UNITS = ("mae", "rmse", "bias")
"""Figures of a number that are in its unit; all others are shares and the like."""

UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""What moves a terminal's cursor, or is no character."""


def brief(text: str, most: int = SCREEN) -> str:
    """A text of at most about ``most`` signs, each of which a terminal and a file can show: of a longer one its
    beginning and, since messages end in what to do, its end."""
    if text.count("\n") > LINES:
        text = " ".join(text.split())
    if len(text) > most:
        begin, end = most * 2 // 3, most // 3
        text = f"{text[:begin]} ... {len(text) - begin - end:,} signs more ... {text[-end:]}"
    return UNSHOWN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def first_line(error: object) -> str:
    """What an exception, or its reason, says, in a line: that of its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def shorten(names: Iterable[str], most: int = SHOWN) -> str:
    """The first few of many names: ``a, b, c and 997 more``."""
    listed = list(names)
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return f"{', '.join(brief(name, REASON) for name in listed[:most])}{more}"


def counted(count: int, what: str) -> str:
    """A number of things: ``1 file``, ``2 files``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def quantity(value: float, unit: str = "") -> str:
    """A number as people write it, with four digits that count, and its unit: ``12.34 years``."""
    if value != value:
        return "–"
    told = f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
    return f"{told} {unit}" if unit else told


def figure_text(value: float, name: str, unit: str = "") -> str:
    """A figure in the digits that it has by its name: errors those that count, with the number's unit."""
    return quantity(value, unit) if name in IN_UNITS else f"{value:.4f}"


def signed(text: str) -> str:
    """A number in words with its sign."""
    return text if text.startswith(("-", "–")) else f"+{text}"
