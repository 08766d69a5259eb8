"""Numbers that are given out once: versions of models that are none.

The numbers of a model's versions are unique in every store: none is given twice, not even after a deletion, and a
version appears with all of its tags or not at all. That is the one thing in MLflow to which many machines can add, and
none can overwrite what another has added.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from tasks.errors import UnchangeableError
from tasks.register.client import Registry, refusals
from tasks.wording import first_line

DRAWS = 10
"""Attempts to draw a number: MLflow gives up on one after three others were faster."""

PAUSE = 0.2
"""Seconds at most between attempts."""

MISSING, DENIED = "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED"
"""What MLflow says of a series that is not there; the latter where it asks who may see it (basic-auth)."""

FLEETING = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")
"""What MLflow then says, and what it says of a database that is busy."""


@dataclass(frozen=True)
class Series:
    """A registered model that is none; its versions are numbers with tags.

    Attributes:
        description: what MLflow's page says of it.
        source: what its versions name in place of files.
    """

    name: str
    description: str
    source: str


def draw(client: Registry, series: Series, tags: dict[str, str], about: str, description: str | None = None) -> int:
    """Add a number to a series, and the series where there is none yet.

    Args:
        about: the registered model that it is drawn for.
        description: of this number, for who looks at MLflow's page.

    Raises:
        UnchangeableError: the registry gives out none.
    """
    for attempt in range(DRAWS):
        try:
            made = client.create_model_version(
                series.name, series.source, tags=tags, description=description, await_creation_for=0
            )
            return int(made.version)
        except refusals() as error:
            refusal, is_missing = error, error.error_code == MISSING
            if is_missing or (error.error_code == DENIED and attempt == 0):
                try:
                    client.create_registered_model(series.name, description=series.description)
                    is_missing = True
                except refusals() as denied:  # another process was faster, or nobody may
                    refusal = denied if is_missing else error
            if attempt == DRAWS - 1 or not (is_missing or error.error_code in FLEETING):
                reason = first_line(refusal)
                raise UnchangeableError(f"the registry takes no changes to model {about!r} ({reason})") from refusal
            time.sleep(random.uniform(0, PAUSE))
    raise AssertionError("unreachable")
