"""How tasks are weighed that are learned at once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.section import Section

Weight = Annotated[float, Field(gt=0)]


class TasksConfig(Section):
    """Tasks that are learned at once, on layers that they share; without this section each has a head of its own on the
    features as the leading task leaves them."""

    weights: Literal["uncertainty", "gradnorm", "equal"] | dict[str, Weight] = "uncertainty"
    """How much the loss of each task counts. `uncertainty`: learned, the less the larger it stays (Kendall et al.
    2018); `gradnorm`: learned, so that all tasks move the shared features alike, and those more that lag behind (Chen
    et al. 2018); `equal`; or a number for each task by its name, such as `{species: 1, age: 0.1}`; 1 where it is left
    out."""
    alpha: float = Field(default=1.5, ge=0)
    """Of `gradnorm`: how strongly tasks that lag behind are preferred; 0: not at all."""
