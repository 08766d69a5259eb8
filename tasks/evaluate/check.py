"""Whether costs and an operating point suit the classes: found out before anything takes time."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.errors import ConfigurationError
from tasks.evaluate.config import OTHERS, EvaluateConfig


def check_decisions(config: EvaluateConfig, classes: Sequence[str], multi_label: bool) -> None:
    """Whether the decisions that are to be measured can be made among these classes.

    Raises:
        ConfigurationError: a class is not there, or there are not two for an operating point.
    """
    if multi_label:
        check_one_label(config)
    _check_costs(config, classes)
    point = config.operating_point
    if point is None:
        return
    if len(classes) != 2:
        raise ConfigurationError(
            f"evaluate.operating_point is for two classes, and there are {len(classes):,}: leave it out"
        )
    if point.positive is not None and point.positive not in classes:
        raise ConfigurationError(
            f"evaluate.operating_point.positive: {point.positive!r} is neither of the classes {' and '.join(classes)}"
        )


def check_one_label(config: EvaluateConfig) -> None:
    """Whether nothing is asked for that images with several labels do not have.

    Raises:
        ConfigurationError: costs or an operating point are.
    """
    for name in ("costs", "operating_point"):
        if getattr(config, name) is not None:
            raise ConfigurationError(
                f"evaluate.{name} is for one label an image, and the images have several each: leave it out"
            )


def _check_costs(config: EvaluateConfig, classes: Sequence[str]) -> None:
    costs = config.costs or {}
    named = dict.fromkeys([*costs, *(given for row in costs.values() for given in row if given != OTHERS)])
    if unknown := [name for name in named if name not in classes]:
        raise ConfigurationError(
            f"evaluate.costs: no class is called {', '.join(map(repr, unknown))}; there are {', '.join(classes)}"
        )
