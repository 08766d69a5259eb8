"""Text in figures as it is: no formulas between dollars, and whatever script a font of this machine has.

Where no font has a character, its code is shown instead, such as ``\\u732b``, so that names stay apart and can be
looked up; Debian's ``fonts-noto-core`` and ``fonts-noto-cjk`` have nearly all.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

UNSEEN = frozenset("\ufe0e\ufe0f\u200b\u200c\u200d\u2060\ufeff")
"""Joiners and selectors that have no shape of their own."""


def literal(text: str) -> str:
    """A text for Matplotlib to show letter by letter.

    Fonts are chosen on the way, and ticks and titles have those that were in use when their figure was made: so it is
    to be made afterwards.
    """
    return "".join(map(_shown, text)).replace("$", r"\$")


def short(name: str, longest: int = 16) -> str:
    """The beginning of a name, as a figure has room for it and shows it."""
    shown = literal(name if len(name) <= longest else f"{name[: longest - 1]}…")
    return f"\u200a{shown}" if shown.startswith("_") else shown  # Matplotlib leaves names that begin so out of legends


@cache
def _shown(character: str) -> str:
    if character == "\n" or (character.isascii() and character.isprintable()):
        return character
    if character in UNSEEN:
        return ""
    if unicodedata.category(character)[0] == "C" or not _has_font(ord(character)):
        return character.encode("unicode_escape").decode()
    return character


def _has_font(code: int) -> bool:
    """Whether a font in use has a character, or one of this machine's that is used from now on."""
    if any(code in _characters(findfont(FontProperties(family=[name]))) for name in mpl.rcParams["font.family"]):
        return True
    for font in sorted(fontManager.ttflist, key=lambda font: "Sans" not in font.name):
        if font.style == "normal" and not _is_stand_in(font.name) and code in _characters(font.fname):
            mpl.rcParams["font.family"] = [*mpl.rcParams["font.family"], font.name]
            return True
    return False


def _is_stand_in(name: str) -> bool:
    """Whether a font has a box for everything, or other letters than those that its codes stand for."""
    return name.startswith(("Last Resort", "cm", "STIXSize", "STIXNonUnicode", "DejaVu Math"))


@cache
def _characters(file: str) -> frozenset[int]:
    try:
        return frozenset(get_font(file).get_charmap())
    except (OSError, RuntimeError):  # in a format that Matplotlib does not draw
        return frozenset()
