"""The ``register`` section of a configuration."""

from __future__ import annotations

from typing import Literal

from tasks.section import Section


class RegisterConfig(Section):
    """What becomes of a candidate."""

    promote: Literal["auto", "never"] = "auto"
    """`auto`: a version becomes champion if it is better than chance, knows the champion's classes, and is not worse
    than the champion on the same validation images, by the 95% interval of the difference; `never`: it waits as
    challenger for `headstart promote`."""
