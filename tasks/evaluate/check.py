"""Whether costs and an operating point suit the classes: found out before anything takes time."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.errors import ConfigurationError
from tasks.evaluate.config import OTHERS, EvaluateConfig
from tasks.target import Kind, Target

FOR_CLASSES = ("costs", "operating_point", "abstain", "attack", "explain", "faithfulness")
"""Keys of what is not done where the leading task is a number."""


def check_leading(config: EvaluateConfig, target: Target) -> None:
    """Whether what is asked for can be measured of the leading task.

    Raises:
        ConfigurationError: it cannot.
    """
    if target.kind == "number":
        check_number(config)
    else:
        check_decisions(config, target.classes, target.kind == "labels")


def check_kind(config: EvaluateConfig, kind: Kind) -> None:
    """Whether nothing is asked for that a leading task of this kind does not have, whatever its classes.

    Raises:
        ConfigurationError: something is.
    """
    if kind == "number":
        check_number(config)
    if kind == "labels":
        check_one_label(config)


def check_number(config: EvaluateConfig) -> None:
    """Whether nothing is asked for that is for classes; what stands in every configuration is passed over in silence.

    Raises:
        ConfigurationError: something is.
    """
    for name in FOR_CLASSES:
        value = getattr(config, name)
        if value and value != type(config).model_fields[name].default:
            raise ConfigurationError(f"evaluate.{name} is for classes, and the leading task is a number: leave it out")


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
