"""Auto: backbone and method are chosen by evidence, within a budget of time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator, model_validator

from tasks.errors import ConfigurationError
from tasks.train.method import Method

if TYPE_CHECKING:
    from tasks.train.solvers import Fit
    from tasks.train.task import Task

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class Auto(Method):
    """A linear probe is registered at once; then backbones are ranked, the best few are tried with several methods, by
    successive halving on validation, and what has won is trained with the time that is left, evaluated and registered.
    """

    method: Literal["auto"] = "auto"
    budget: str = "10m"
    """Time of the whole run, from the command to the registered model: `90s`, `10m`, `1.5h`."""
    backbones: list[str] = Field(default=[])
    """What competes, as `NAME[:LAYER][=WEIGHTS]`; by default the backbone of `extract`, the built-in one, and the
    five cheapest of those whose weights have been downloaded."""
    methods: list[str] = Field(default=["linear", "mlp", "lp_ft", "partial"], min_length=1)
    """Methods that are tried."""

    @field_validator("budget", mode="before")
    @classmethod
    def _is_time(cls, given: object) -> str:
        text = str(given).strip()
        if not re.fullmatch(r"\d+(\.\d+)?[smh]", text) or float(text[:-1]) == 0:
            raise ValueError("write a time, such as 90s, 10m or 1.5h")
        return text

    @model_validator(mode="after")
    def _searches_by_itself(self) -> Auto:
        if self.search or self.seeds:
            raise ValueError("auto searches by itself: leave search and seeds out")
        return self

    @property
    def seconds(self) -> float:
        """The budget."""
        return float(self.budget[:-1]) * UNITS[self.budget[-1]]

    @property
    def tried(self) -> tuple[str, list[str]]:
        return "methods", self.methods

    def fit(self, task: Task) -> Fit:
        raise ConfigurationError(
            "auto chooses the backbone, too, so it is carried out by `headstart run`: name a method to fit to features"
        )
