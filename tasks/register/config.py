"""The ``register`` section of a configuration."""

from __future__ import annotations

from typing import Literal

from tasks.section import Section


class RegisterConfig(Section):
    """What becomes of a candidate."""

    promote: Literal["auto", "never"] = "auto"
    """`auto`: a version that is not worse than the champion on validation becomes champion; `never`: it waits
    as challenger for `headstart promote`."""
