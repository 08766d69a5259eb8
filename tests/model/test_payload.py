"""What people send for an image is read, or refused in one line."""

from __future__ import annotations

import base64
import textwrap
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from tasks.errors import DataError, TooLarge
from tasks.limits import ALLOWED, Limits
from tasks.model.payload import decode_base64, read_image

CONTENT = bytes(range(256)) + b"\xff\xfe\xfb\xef"
PLAIN = base64.b64encode(CONTENT).decode()

DIALECTS = {
    "plain": PLAIN,
    "url-safe": base64.urlsafe_b64encode(CONTENT).decode(),
    "line ends": base64.encodebytes(CONTENT).decode(),
    "line ends of Windows": "\r\n".join(textwrap.wrap(PLAIN, 76)),
    "around it": f"  {PLAIN}\n",
    "no padding": PLAIN.rstrip("="),
    "data": f"data:image/png;base64,{PLAIN}",
    "data in capitals": f" DATA:image/png;BASE64,{PLAIN}",
    "data in percents": f"data:image/png;base64,{quote(PLAIN, safe='')}",
    "data with parameters": f"data:image/svg+xml;charset=utf-8;base64,{base64.urlsafe_b64encode(CONTENT).decode()}",
}


@pytest.mark.parametrize("text", DIALECTS.values(), ids=DIALECTS)
def test_every_dialect_of_base64_is_read(text: str) -> None:
    assert "+" in PLAIN and "/" in PLAIN and PLAIN.endswith("=")
    assert decode_base64(text, ALLOWED) == CONTENT
    for entry in (text, {"b64": text}, {"image": text}, np.str_(text)):
        assert read_image(entry, ALLOWED) == CONTENT


@pytest.mark.parametrize(
    "entry", [CONTENT, bytearray(CONTENT), memoryview(CONTENT), np.bytes_(CONTENT), {"bytes": CONTENT}]
)
def test_bytes_are_what_they_are(entry: Any) -> None:
    assert read_image(entry, ALLOWED) == CONTENT


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (None, "null"), (5, "type int"), (np.float64("nan"), "null"), (np.float64(1), "type float64"),
        (True, "type bool"), ("", "empty text"),
        (" \n", "empty text"), ("hello", "neither the base64"), ("é", "neither the base64"),
        ("http://127.0.0.1:1/x.png", "neither the base64"), ("file:///etc/passwd", "neither the base64"),
        ("data:image/png,abcd", "neither the base64"), ("AAA=AAAA", "neither the base64"),
        ([[1, 2]], "a list is no image"), ({}, "type dict"), ({"url": "x"}, "type dict"), ({"b64": None}, "null"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused_in_one_short_line(entry: Any, told: str) -> None:
    with pytest.raises(DataError, match=told) as refused:
        read_image(entry, ALLOWED)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 200


def test_no_more_bytes_are_unpacked_than_allowed() -> None:
    assert decode_base64(PLAIN, Limits(bytes=len(CONTENT))) == CONTENT
    with pytest.raises(TooLarge, match="260 bytes are too much; the limit is 259"):
        read_image(PLAIN, Limits(bytes=259))
