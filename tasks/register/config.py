"""The ``register`` section of a configuration."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator

from tasks.register.gates import ALWAYS, GATES
from tasks.register.gating import Gate
from tasks.section import Section


def _spelt(gate: Any) -> Any:
    """A name alone is a gate with its defaults, and a name with keys below it one with these."""
    if isinstance(gate, str):
        return {"gate": gate}
    if isinstance(gate, dict) and len(gate) == 1 and "gate" not in gate:
        [(name, keys)] = gate.items()
        if keys is None or isinstance(keys, dict):
            return {"gate": name} | (keys or {})
    return gate


def _name_of(gate: Any) -> str:
    return str(gate.get("gate", "") if isinstance(gate, dict) else getattr(gate, "gate", ""))


_kinds: list[Any] = [Annotated[kind, Tag(name)] for name, kind in GATES.items()]
if TYPE_CHECKING:
    AnyGate = Gate
else:
    AnyGate = Annotated[reduce(or_, _kinds), Discriminator(_name_of), BeforeValidator(_spelt)]


class RegisterConfig(Section):
    """What becomes of a candidate."""

    promote: Literal["auto", "never"] = "auto"
    """`auto`: a version that passes all gates becomes champion; `never`: it waits for a person, as one does that needs
    approval."""
    gates: list[AnyGate] = Field(default=list(ALWAYS))
    """What a version has to pass, such as `[{gate: latency, p95: 50}, slices]`; the worst word of all is the verdict.
    `chance`, `champion`, `leak` and `parity` stand in any case: named here, they get other keys."""

    @field_validator("gates")
    @classmethod
    def _with_those_that_always_stand(cls, named: list[Gate]) -> list[Gate]:
        names = {gate.gate for gate in named}
        return [*(gate for gate in ALWAYS if gate.gate not in names), *named]
