"""Text files: which encoding one is in, as far as its bytes say so, and rows of CSV that every reader takes apart."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Sequence
from typing import IO

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",  # whose beginning is UTF-16's, so before it
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
"""Byte order marks."""


def encoding_of(start: bytes) -> str | None:
    """The encoding that the beginning of a file shows; None where it may be UTF-8 or any of the old ones.

    A byte order mark says it. So do bytes of which every second one is zero: Windows' "Unicode" without its mark.
    What is neither is UTF-8 or a matter of guessing, which nobody does here: in Latin-1, Windows-1250 and Mac Roman,
    one byte is three letters.
    """
    for mark, encoding in MARKS.items():
        if start.startswith(mark):
            return encoding
    high, low = start[::2].count(0), start[1::2].count(0)
    if 2 * max(high, low) > len(start) // 2 and not (high and low):
        return "utf-16-be" if high else "utf-16-le"
    return None


def is_utf8(text: str) -> bool:
    """Whether a text, as the name of a file, can be written as UTF-8: such names are bytes of any kind."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def escaped(text: str) -> str:
    """A text as UTF-8 has it, with numbers in place of what it has not."""
    return text.encode("utf-8", "backslashreplace").decode()


def write_rows(file: IO[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows of CSV, their lines ended by a line feed.

    One with a carriage return, as a name may have, is quoted: most readers take it for an end of the line otherwise,
    and `csv` quotes it only where lines end with one (Python before 3.13).
    """
    plain, quoted = (csv.writer(file, lineterminator="\n", quoting=how) for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    for row in rows:
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in row)
        (quoted if has_return else plain).writerow(row)
