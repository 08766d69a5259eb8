"""Whether gates can measure what they are to: found out before anything takes time."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.errors import ConfigurationError
from tasks.evaluate.config import EvaluateConfig
from tasks.register.config import RegisterConfig
from tasks.register.gates.fairness import Fairness
from tasks.register.gates.robustness import Robustness
from tasks.register.gates.slices import Slices
from tasks.target import Kind, Target


def check_gates(config: RegisterConfig, evaluate: EvaluateConfig) -> None:
    """Whether the evaluation measures what gates go by.

    Raises:
        ConfigurationError: it does not; the message says what to change.
    """
    for gate in config.gates:
        if isinstance(gate, Robustness) and evaluate.robustness == 0:
            raise ConfigurationError(
                "register.gates: robustness goes by corrupted images, and evaluate.robustness is 0: make it 64, say"
            )
        if isinstance(gate, Slices):
            for kind in gate.by:
                if kind not in ("class", "value") and kind not in evaluate.slices:
                    raise ConfigurationError(
                        f"register.gates: slices is to go by {kind!r}, which evaluate.slices does not have "
                        f"({', '.join(evaluate.slices) or 'none'}): add it there"
                    )


def check_gates_of_task(config: RegisterConfig, target: Target) -> None:
    """Whether gates are for what the leading task is, and the classes are there that they name.

    Raises:
        ConfigurationError: they are not.
    """
    check_gates_of_kind(config, target.kind)
    check_gate_classes(config, target.classes)


def check_gates_of_kind(config: RegisterConfig, kind: Kind) -> None:
    """Whether gates are for a leading task of this kind.

    Raises:
        ConfigurationError: one is not.
    """
    number = kind == "number"
    for gate in config.gates:
        if isinstance(gate, Fairness) and number:
            raise ConfigurationError(
                "register.gates: fairness is for classes, and the leading task is a number: take it out; slices, by: "
                f"[{gate.column}], holds parts against the champion's"
            )
        if isinstance(gate, Slices) and (other := "class" if number else "value") in gate.by:
            raise ConfigurationError(
                f"register.gates: slices goes by {other!r}, and the leading task is {'a' if number else 'no'} number: "
                f"write {'value' if number else 'class'!r}"
            )


def check_gate_classes(config: RegisterConfig, classes: Sequence[str]) -> None:
    """Whether the classes are there that gates name.

    Raises:
        ConfigurationError: one is not.
    """
    for gate in config.gates:
        if isinstance(gate, Fairness) and gate.recall is not None and gate.recall not in classes:
            raise ConfigurationError(f"register.gates: fairness names {gate.recall!r}, which is none of the classes")
