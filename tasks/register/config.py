"""The ``register`` section of a configuration."""

from __future__ import annotations

from typing import Literal

from tasks.section import Section


class RegisterConfig(Section):
    """What becomes of a candidate."""

    promote: Literal["auto", "never"] = "auto"
    """`auto`: a version becomes champion if it is better than chance and, on the champion's classes and validation
    images, not below the interval of the champion's score; `never`: it waits as challenger for `headstart promote`."""
