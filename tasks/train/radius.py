"""How far an attacker may change a pixel, as people write it: a share of the range of pixels, such as 4/255."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

HOW = "write it as a share of the pixels' range, 0 to 1: 4/255, or 0.0157"


def _number(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    above, _, below = given.partition("/")
    try:
        return float(Fraction(above) / Fraction(below or 1))
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(HOW) from error


def _share(value: float) -> float:
    if not 0 < value < 1:
        raise ValueError(HOW)
    return value


Radius = Annotated[float, BeforeValidator(_number), AfterValidator(_share)]
"""In L∞: as much as every channel of every pixel may change, where black is 0 and white is 1."""


def levels(radius: float) -> str:
    """A radius in levels of 8 bits: ``4`` for 4/255."""
    return f"{255 * radius:.4g}"
