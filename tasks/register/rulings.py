"""What gates found and said of a version, as its tags keep it: a tag ``gate.1``, ``gate.2``, ... for each.

A finding is written when the version is made, while all that it rests on is at hand, with the keys that the gate was
given: so whoever judges the version later, another run say, needs nothing but the registry. The outcome comes beside
it when the version is judged.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tasks.register.client import Version
from tasks.register.gates import GATES
from tasks.register.gates.champion import Champion
from tasks.register.gates.chance import Chance
from tasks.register.gating import FAILURES, Evidence, Finding, Gate, Standing, outcome_of, still_said
from tasks.register.registry import gate_tags
from tasks.register.tags import GATE, entry_of
from tasks.ruling import Outcome, Ruling
from tasks.wording import REASON, brief

LEAK = "leak"
"""Tag that versions of earlier headstarts have whose figures are not to be believed: why."""


def findings_as_tags(gates: Sequence[Gate], evidence: Evidence) -> dict[str, str]:
    """Have a candidate measured by each gate."""
    return {f"{GATE}{place}": _measured(gate, evidence) for place, gate in enumerate(gates, 1)}


def is_measured(gate: Gate, version: Version) -> bool:
    """Whether a version was measured by a gate with these keys; of one that an earlier headstart made, nobody knows."""
    kept = gate_tags(version)
    return not kept or any(_written(entry_of(version.tags, key) or {}) == gate for key in kept)


def _written(entry: dict[str, Any]) -> Gate | None:
    """The gate that a tag is of, with what it did not know then as it is by default; None where nobody knows it."""
    settings = entry.get("settings")
    name = settings.get("gate") if isinstance(settings, dict) else None
    try:
        return GATES[name].model_validate(settings) if name in GATES else None
    except ValidationError:
        return None


def rule(standing: Standing) -> dict[str, Ruling]:
    """What each gate says of a version, by its tag; of one that an earlier headstart made, those that it knew."""
    if kept := gate_tags(standing.version):
        return {key: _ruled(key, standing) for key in kept}
    rulings = [_ruling(gate.gate, gate.confirm(None, standing), gate.on_failure) for gate in (Chance(), Champion())]
    if told := standing.version.tags.get(LEAK):
        rulings.append(Ruling(gate=LEAK, outcome="needs approval", reason=told))
    return {f"{GATE}{place}": ruling for place, ruling in enumerate(rulings, 1)}


def with_outcome(version: Version, key: str, ruling: Ruling) -> str:
    """The tag of a gate once it has spoken."""
    kept = entry_of(version.tags, key) or {}
    return _text(kept | {"ruling": ruling.model_dump()})


def _measured(gate: Gate, evidence: Evidence) -> str:
    finding = gate.measure(evidence)
    return _text({"settings": gate.model_dump(mode="json"), "finding": None if finding is None else _short(finding)})


def _ruled(key: str, standing: Standing) -> Ruling:
    entry = entry_of(standing.version.tags, key) or {}
    try:
        settings = entry["settings"]
        name = str(settings["gate"])
        on_failure = settings["on_failure"] if settings["on_failure"] in FAILURES else "approve"
        finding = None if entry["finding"] is None else _findings().validate_python(entry["finding"])
    except (KeyError, TypeError, ValidationError):
        return Ruling(gate=key, outcome="needs approval", reason=f"the tag {key} was edited outside headstart")
    try:
        found = GATES[name].model_validate(settings).confirm(finding, standing)
    except (KeyError, ValidationError):  # a gate of another headstart's
        found = still_said(finding, standing)
    return _ruling(name, found, on_failure)


@cache
def _findings() -> TypeAdapter[Finding]:
    """By which a tag is read: a value of another kind than it has to be is an error."""
    return TypeAdapter(Finding)


def _ruling(name: str, finding: Finding, on_failure: str) -> Ruling:
    outcome: Outcome = outcome_of(finding, on_failure)
    reason = finding.reason if finding.passed or outcome != "pass" else f"only warned: {finding.reason}"
    return Ruling(
        gate=name, outcome=outcome, threshold=finding.threshold, measured=finding.measured, reason=reason
    )  # fmt: skip


def _short(finding: Finding) -> dict[str, Any]:
    """Within the 5,000 letters that some of MLflow's databases keep of a tag."""
    return asdict(finding) | {"reason": brief(finding.reason, 2 * REASON)}


def _text(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False)
