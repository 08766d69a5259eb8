"""What a cell says, as text: the same whichever kind of table holds it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime, time
from typing import Any

from tasks.wording import brief

WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))\.0")
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)

QUOTED = r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+\""""
LISTS = {
    "[]": (rf"{QUOTED}|[+-]?[\d.]++(?:[eE][+-]?\d++)?|None|nan", r"(?:\s*,\s*|\s+)"),
    "{}": (rf"{QUOTED}|[^\s\"'{{}},:\\][^\"{{}},:\\]*+", r"\s*,\s*"),
}
"""How lists begin and end, as Python and NumPy write them, and as PostgreSQL does: a value, and what parts two."""

MISSING = frozenset(["None", "nan", "NULL"])
"""Values of such lists that say nothing."""

LONGEST = 60
"""Signs of a cell that are shown where it is no number."""

LARGEST = 3e38
"""Of a number's absolute value; what is learned from is float32."""


def text_of(value: Any) -> str:
    """The text of a cell that has a type; empty where there is nothing.

    A float that is a whole number is that number, since integers become floats wherever one is missing; a time at
    midnight is a day, since pandas keeps days as times.

    Raises:
        ValueError: the cell holds several values, or bytes that are no text.
    """
    if value is None or value != value:  # a NaN differs from itself
        return ""
    if isinstance(value, dict):
        raise ValueError("holds an object where a value is expected (pandas: to_json with orient='records')")
    if isinstance(value, list):
        raise ValueError("holds a list where one value is expected")
    if isinstance(value, bytes):
        return _decoded(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime) and value.time() == time():
        return str(date(value.year, value.month, value.day))
    return str(value).strip()


def several_labels(column: str) -> str:
    """What to write where a column holds lists."""
    return f"lists of several labels are read by label: {{tags: {{column: {column}, kind: labels}}}}"


def list_text(values: Sequence[Any]) -> str:
    """The text of a list, which `list_of` reads.

    Raises:
        ValueError: as for `text_of`, of one of its values.
    """
    return json.dumps([text_of(value) for value in values])


def list_of(text: str) -> list[str] | None:
    """The values of the list that a text is: one of JSON, Python, NumPy or PostgreSQL. None where it is none.

    >>> list_of('["cat", "dog"]'), list_of("['cat' 'dog']"), list_of("{cat,dog}"), list_of("cat,dog")
    (['cat', 'dog'], ['cat', 'dog'], ['cat', 'dog'], None)

    Raises:
        ValueError: it begins and ends as a list does, but cannot be read as one.
    """
    if len(text) < 2 or (ends := text[0] + text[-1]) not in LISTS:
        return None
    try:
        return [value for value in _values(text, ends) if value]
    except (ValueError, SyntaxError, RecursionError):
        raise ValueError(f'holds {brief(text, LONGEST)!r}, which is no list as ["cat", "dog"] is one') from None


def _values(text: str, ends: str) -> list[str]:
    if ends == "[]":
        with suppress(ValueError):
            return [text_of(value) for value in json.loads(text)]
    value, between = LISTS[ends]
    if not re.fullmatch(rf"\s*(?:(?:{value})(?:{between}(?:{value}))*+\s*)?", text[1:-1]):
        raise ValueError
    return ["" if found in MISSING else _bare(found) for found in re.findall(value, text[1:-1])]


def _bare(value: str) -> str:
    return str(ast.literal_eval(value)).strip() if value[0] in "'\"" else plain_number(value.strip())


def class_name(value: Any, names: Sequence[str]) -> str:
    """The name of a class that a cell tells by its number, as the Hub's datasets do; empty where there is none.

    Raises:
        ValueError: there is no class of this number, or as for `text_of`.
    """
    if value == -1:  # the Hub's sign for a missing class
        return ""
    if not isinstance(value, int):
        return text_of(value)
    if not 0 <= value < len(names):
        raise ValueError(f"holds {value}, where there are {len(names):,} classes")
    return names[value]


def plain_number(text: str) -> str:
    """The text of a cell without a type, ``3`` for ``3.0``: how an integer is saved where another one is missing."""
    whole = WHOLE.fullmatch(text)
    return whole[1] if whole else text


def number_of(text: str) -> float:
    """The number that a text says, with a point or, where that cannot be a comma between thousands, a decimal comma.

    Raises:
        ValueError: it says none, none that is finite, or perhaps another one.
    """
    text = text.strip()
    if THOUSANDS.fullmatch(text):
        raise ValueError(
            f"holds {text!r}, which may be {text.replace(',', '.')} or {text.replace(',', '')}: write it so"
        )
    if not NUMBER.fullmatch(text) and not DECIMAL_COMMA.fullmatch(text):
        raise ValueError(f"holds {brief(text, LONGEST)!r} where a number is expected")
    value = float(text.replace(",", "."))
    if abs(value) > LARGEST:
        raise ValueError(f"holds {brief(text, LONGEST)!r}, which is too large for a number")
    return value + 0.0  # no negative zero


def number_text(value: float) -> str:
    """The shortest text of a number, which reads back as it; a whole one without a point.

    >>> number_text(34.0), number_text(0.1)
    ('34', '0.1')
    """
    return plain_number(repr(float(value)))


def _decoded(value: bytes) -> str:
    try:
        return value.decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"holds {len(value):,} bytes that are no text") from None
