"""What a cell says, as text: the same whichever kind of table holds it."""

from __future__ import annotations

import re
from datetime import date, datetime, time
from typing import Any

WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))\.0")


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
        raise ValueError("holds a list; write several labels as text with ingest.source.separator between them")
    if isinstance(value, bytes):
        return _decoded(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime) and value.time() == time():
        return str(date(value.year, value.month, value.day))
    return str(value).strip()


def plain_number(text: str) -> str:
    """The text of a cell without a type, ``3`` for ``3.0``: how an integer is saved where another one is missing."""
    whole = WHOLE.fullmatch(text)
    return whole[1] if whole else text


def _decoded(value: bytes) -> str:
    try:
        return value.decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"holds {len(value):,} bytes that are no text") from None
